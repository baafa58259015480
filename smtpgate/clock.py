"""The system's clock; only this module reads the time."""

import time
from datetime import UTC, datetime
from functools import partial


class SystemClock:
    """The machine's clock; implements the Clock port."""

    # A message asks both clocks 40 times, and a method of our own would cost more than a clock.
    # This moment, in UTC.
    now = staticmethod(partial(datetime.now, UTC))
    # Seconds of a clock that is never set back, for durations.
    monotonic = staticmethod(time.monotonic)
