"""The only asker of the time."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock; implements the Clock port."""

    def now(self) -> datetime:
        """This moment, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only go forward, for durations."""
        return time.monotonic()
