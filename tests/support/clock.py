"""A clock that stands still until a test moves it, and event loops whose time can be moved."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Final, ParamSpec

P = ParamSpec("P")

_START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


class MovableClock:
    """Implements the Clock port; both of its times go forward together."""

    def __init__(self, start: datetime = _START) -> None:
        self._now = start
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        """The moment it stands at, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since a moment that means nothing."""
        return self._monotonic_s

    def move(self, seconds: float) -> None:
        """Let that much time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def step(self, seconds: float) -> None:
        """Set the time of day, as an administrator would; durations know nothing of it."""
        self._now += timedelta(seconds=seconds)


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved, as that of every test of a coroutine."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class StandingLoop(MovableLoop):
    """One whose time never goes on by itself, for code without sockets and threads."""

    def time(self) -> float:
        return self.ahead_s


class MovableLoops(asyncio.DefaultEventLoopPolicy):
    """Makes every new loop such a one."""

    def new_event_loop(self) -> MovableLoop:
        return MovableLoop()


def on_standing_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, run on a loop whose time stands still."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=StandingLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def move_loop(seconds: float) -> None:
    """Let that much time pass for the running loop, and what is due then happen.

    What can run does so before: a wait that is about to begin would begin after that time.
    Beside a gate it is less than its stores may take for a request, 5 s, or nothing is asked
    of them. On a loop that cannot be moved, as uvloop's, the time passes.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, MovableLoop):
        await settle()
        loop.ahead_s += seconds
        await settle()
    else:
        await asyncio.sleep(seconds)


class _Leaping(selectors.SelectSelector):
    """Waits by moving its time, and finds nothing."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let the time pass that the loop would sleep."""
        assert timeout is not None, "nothing is due, ever"
        self.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never sleeps: its time leaps to what is due next.

    For code without sockets and threads. Two runs of the same code are the same.
    """

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._leaping.now_s

    def pass_time(self, seconds: float) -> None:
        """Run everything that is due within that time."""
        self.run_until_complete(asyncio.sleep(seconds))
