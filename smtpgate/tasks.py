"""Tasks and threads: each task has an owner, and each kind of work has threads of its own."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), after_s)
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
    before, and to cancel and set a timer costs more than a step of the protocol.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.at: float | None = None
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def move(self, at: float, reached: Callable[[], None]) -> None:
        """Call ``reached`` at that moment of the loop's time, unless it is moved or cleared."""
        self.at = at
        if self._timer is None or self._timer.when() > at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._fire, reached)

    def clear(self) -> None:
        """Nothing is waited for."""
        self.at = None

    def close(self) -> None:
        """Clear it, and cancel the timer: nothing refers to the owner any more."""
        self.at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self, reached: Callable[[], None]) -> None:
        at, self._timer = self.at, None
        if at is None:
            return
        if self._loop.time() < at:
            self._timer = self._loop.call_at(at, self._fire, reached)
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


class Offload:
    """Runs work that grows with a message: at once if it is short, else in a thread.

    On the event loop, long work would delay every other session for more than a millisecond.
    """

    def __init__(self) -> None:
        self._threads = Threads("message", min(4, os.cpu_count() or 1))

    async def run(
        self, is_long: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the work, and return its result."""
        if is_long:
            return await self._threads.run(work, *args, **kwargs)
        return work(*args, **kwargs)
