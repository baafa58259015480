"""smtpgate on a host whose clock is wrong: ``python -m tests.support.skewed SECONDS WORDS…``.

The words are those of the program's command line. Only the time of day is wrong, not durations,
until SIGUSR2 moves both on by 200 seconds.
"""

import signal
import sys
from datetime import datetime, timedelta
from typing import Final

from smtpgate.cli import main
from smtpgate.clock import SystemClock

_MOVE_S: Final = 200  # less than `directory.max_stale_s`: the gate goes on as it was


def _skew(seconds: float) -> None:
    right, right_monotonic = SystemClock.now, SystemClock.monotonic
    moved = 0

    def now() -> datetime:
        return right() + timedelta(seconds=seconds + moved)

    def monotonic() -> float:
        return right_monotonic() + moved

    def move(*_: object) -> None:
        nonlocal moved
        moved += _MOVE_S

    SystemClock.now = staticmethod(now)
    SystemClock.monotonic = staticmethod(monotonic)
    signal.signal(signal.SIGUSR2, move)


if __name__ == "__main__":
    _skew(float(sys.argv.pop(1)))
    main()
