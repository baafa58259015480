"""The system's clock; only this module reads the time."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock; implements the Clock port."""

    def now(self) -> datetime:
        """This moment, in UTC."""
        return datetime.now(UTC)

    # Seconds of a clock that is never set back, for durations. A message asks it 30 times, and
    # a method of our own would cost more than the clock.
    monotonic = staticmethod(time.monotonic)
