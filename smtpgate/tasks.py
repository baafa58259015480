"""Tasks and threads: each task has an owner, and each kind of work has threads of its own."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

# What the work of one turn of the event loop may take together. Short turns part the messages
# that go on together, and so the batches of their store; long ones are pauses for all others.
_TURN_S: Final = 0.0025
# When nothing was done for so long, the loop has waited.
_IDLE_S: Final = 0.0005
# Tasks that are woken for a turn; those for which it has no time wait again.
_MOST_STEPS: Final = 16


class TaskOwner:
    """Keeps the tasks that it started until they end (asyncio itself refers to them weakly)."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, work: Coroutine[Any, Any, T], *, name: str | None = None
    ) -> asyncio.Task[T]:
        """Run the work in a task that is kept until it ends."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Ask every task to end now."""
        for task in self._tasks:
            task.cancel()

    async def finish(self, timeout_s: float) -> int:
        """Wait until there is no task, at most ``timeout_s``, and return the number left.

        Tasks that are started meanwhile are waited for too.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while self._tasks and (left_s := until - loop.time()) >= 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        return len(self._tasks)

    async def drain(self, timeout_s: float) -> int:
        """Wait until there is no task, at most ``timeout_s``; cancel and count the others."""
        count = await self.finish(timeout_s)
        if count:
            self.cancel()
            await asyncio.wait(self._tasks, timeout=1)
        return count


class Rerun:
    """Work that is done once at a time, and once more when it was asked for meanwhile."""

    def __init__(
        self, tasks: TaskOwner, work: Callable[[], Coroutine[Any, Any, object]], *, name: str
    ) -> None:
        self._tasks = tasks
        self._work = work
        self._name = name
        self._is_due = False
        self._running: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Have the work done from its beginning: now, or after the work under way."""
        self._is_due = True
        if self._running is None:
            self._running = self._tasks.start(self._run(), name=self._name)

    async def _run(self) -> None:
        try:
            while self._is_due:
                self._is_due = False
                await self._work()
        finally:
            self._running = None


class Rhythm:
    """The waits of a background loop, and its orderly end.

    A task that is cancelled leaves half-used connections behind; this ends it where it waits.
    """

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._is_over = False

    async def goes_on(self, after_s: float) -> bool:
        """Wait ``after_s``, or until woken; true if the work goes on."""
        if not self._is_over:
            timer = asyncio.get_running_loop().call_later(after_s, self._woken.set)
            try:
                await self._woken.wait()
            finally:
                timer.cancel()
            self._woken.clear()
        return not self._is_over

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    def end(self) -> None:
        """End the wait and the work."""
        self._is_over = True
        self._woken.set()


class Deadline:
    """A moment that is moved at each step, and seldom reached.

    Its timer stays where it is until it fires, and is set again only then: most waits end long
    before, and to cancel and set a timer costs more than a step of the protocol. ``at`` is
    ``None`` while nothing is waited for; its owner sets it so when a wait ends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.at: float | None = None
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    def move(self, at: float, reached: Callable[[], None]) -> None:
        """Call ``reached`` at that moment of the loop's time, unless the wait ends before."""
        self.at = at
        if at < self._fires_at:
            self._set_timer(at, reached)

    def close(self) -> None:
        """End the wait, and cancel the timer: nothing refers to the owner any more."""
        self.at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._fires_at = None, math.inf

    def _set_timer(self, at: float, reached: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = at
        self._timer = self._loop.call_at(at, self._fire, reached)

    def _fire(self, reached: Callable[[], None]) -> None:
        at, self._timer, self._fires_at = self.at, None, math.inf
        if at is None:
            return
        if self._loop.time() < at:
            self._set_timer(at, reached)
            return
        self.at = None
        reached()


class Threads:
    """At most ``count`` threads for one purpose, started at their first use.

    asyncio's default pool has a few threads for everything: a slow name lookup would delay
    signatures and the log. So each kind of work has its own threads, and slow work of one kind
    never delays another kind.
    """

    def __init__(self, purpose: str, count: int = 1) -> None:
        self._pool = ThreadPoolExecutor(count, f"smtpgate-{purpose}")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the work in one of the threads, and return its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(work, *args, **kwargs))

    def start(self, work: Callable[[], object]) -> None:
        """Run the work in one of the threads; nothing waits for its end."""
        _ = self._pool.submit(work)


class LoopTurns:
    """Spreads work of many sessions over the turns of the event loop, so that none is long.

    Hundreds of clients may send in one moment, and the loop does all that is ready before it
    looks at its sockets again. When the work of a turn has taken its time, further work waits
    for later turns, in its order. Steps of tasks and calls have a line each, so that commands
    do not wait for messages.

    The loop reports no turns. Work begins a new one when nothing was done for a while, which
    costs nothing; otherwise, when the time is over, a callback does.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen_s = float("-inf")  # when work began or ended last
        self._ends_s: float | None = None  # of this turn, once it has begun
        self._is_ending = False
        self._calls: deque[Callable[[], object]] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._late: list[asyncio.Future[None]] = []
        self._steps = 0  # that wait, or are woken and have not begun

    def may_begin(self) -> bool:
        """True if this turn has time for more work, and none waits for it."""
        if self._calls or self._steps:
            return False
        now_s = self._monotonic()
        is_idle, self._seen_s = now_s - self._seen_s > _IDLE_S, now_s
        if is_idle or self._ends_s is None:
            self._ends_s = now_s + _TURN_S
        return now_s < self._ends_s

    def has_time(self) -> bool:
        """True if work that has begun in this turn may go on."""
        self._seen_s = now_s = self._monotonic()
        if self._ends_s is None:
            self._ends_s = now_s + _TURN_S
        return now_s < self._ends_s

    def worked(self) -> None:
        """Work has ended: the loop was not idle until now."""
        self._seen_s = self._monotonic()

    def spend(self, seconds: float) -> None:
        """Count what the loop will do for this work later."""
        if self._ends_s is not None:
            self._ends_s -= seconds

    def later(self, work: Callable[[], object]) -> None:
        """Call it in a later turn that has time."""
        self._calls.append(work)
        self._end_turn()

    async def step(self, *, cost_s: float = 0.0) -> None:
        """Wait until a turn has time for work of this task.

        ``cost_s`` is the time that the loop will take for it afterwards.
        """
        if not self.may_begin():
            await self.wait()
        if cost_s:
            self.spend(cost_s)

    async def wait(self) -> None:
        """Wait in line for a turn that has time."""
        loop = asyncio.get_running_loop()
        self._steps += 1
        self._end_turn()
        try:
            self._waiters.append(waiter := loop.create_future())
            await waiter
            while not self.has_time():
                self._late.append(waiter := loop.create_future())
                await waiter
        finally:
            self._steps -= 1

    def _end_turn(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """Make the calls that have waited, and wake tasks for their steps."""
        self._ends_s, self._is_ending = None, False
        try:
            for _ in range(len(self._calls)):  # what they add is for a later turn
                if not self.has_time():
                    break
                self._calls.popleft()()
        finally:
            self._ends_s = None
            if self._steps:
                self._wake_tasks()
            if self._calls or self._steps:
                self._end_turn()

    def _wake_tasks(self) -> None:
        """Wake the tasks that are first; those that were late have been waiting longest."""
        self._waiters.extendleft(reversed(self._late))
        self._late.clear()
        woken = 0
        while self._waiters and woken < _MOST_STEPS:
            waiter = self._waiters.popleft()
            if not waiter.done():  # its task has been cancelled
                waiter.set_result(None)
                woken += 1


class Offload:
    """Runs work that grows with a message: on the event loop if it is short, else in a thread.

    On the event loop, long work would delay every other session for more than a millisecond,
    and so would the short work of many messages in one turn.
    """

    def __init__(self, turns: LoopTurns, threads: Threads) -> None:
        self.turns = turns
        self._threads = threads

    async def run(
        self, is_long: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the work, and return its result."""
        if is_long:
            return await self._threads.run(work, *args, **kwargs)
        if not self.turns.may_begin():
            await self.turns.wait()
        result = work(*args, **kwargs)
        self.turns.worked()
        return result

    async def run_next(
        self, is_long: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work that follows other work of its message: while the turn has time, at once.

        It does not wait behind others for a turn of its own; to wait costs as much as short
        work does.
        """
        if is_long or not self.turns.has_time():
            return await self.run(is_long, work, *args, **kwargs)
        result = work(*args, **kwargs)
        self.turns.worked()
        return result
