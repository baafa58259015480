"""A clock that stands still until a test moves it, and an event loop that can be moved too."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Final, ParamSpec

__all__ = ["MovableClock", "MovableLoop", "move_loop", "on_movable_loop", "settle"]

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
    """An event loop whose time goes on by itself only a little."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def on_movable_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, run on such a loop."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=MovableLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def move_loop(seconds: float) -> None:
    """Let that much time pass for the running loop, and what is due then happen."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovableLoop)
    loop.ahead_s += seconds
    await settle()
