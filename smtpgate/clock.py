"""The system's clock; only this module reads the time."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock; implements the Clock port."""

    def now(self) -> datetime:
        """This moment, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of a clock that is never set back, for durations."""
        return time.monotonic()
