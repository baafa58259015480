"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["MovableClock"]

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
