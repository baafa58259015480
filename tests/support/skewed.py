"""smtpgate on a host whose clock is wrong: ``python -m tests.support.skewed SECONDS WORDS…``.

The words are those of the program's command line. Only the time of day is wrong, not durations.
"""

import sys
from datetime import datetime, timedelta

from smtpgate.cli import main
from smtpgate.clock import SystemClock

__all__ = ()


def _skew(seconds: float) -> None:
    right = SystemClock.now

    def now(self: SystemClock) -> datetime:
        return right(self) + timedelta(seconds=seconds)

    SystemClock.now = now  # type: ignore[method-assign]


if __name__ == "__main__":
    _skew(float(sys.argv.pop(1)))
    main()
