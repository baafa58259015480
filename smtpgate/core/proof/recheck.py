"""When the DNS is asked again: often while somebody waits for the answer, rarely later."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

Phase = Literal["pending", "success", "missing", "signing"]

_FOREVER: Final = timedelta.max
# For each phase: up to that age, the DNS is asked so often.
_INTERVALS: Final[Mapping[Phase, tuple[tuple[timedelta, timedelta], ...]]] = {
    "pending": (
        (timedelta(hours=1), timedelta(minutes=1)),
        (timedelta(hours=6), timedelta(minutes=5)),
        (_FOREVER, timedelta(minutes=30)),
    ),
    "success": ((_FOREVER, timedelta(hours=6)),),
    "missing": ((_FOREVER, timedelta(hours=1)),),
    "signing": ((_FOREVER, timedelta(hours=1)),),
}
_SPREAD: Final = 0.1  # what began together shall not be asked together for ever
# No check is further away than this, unless the clock was set back since it was planned.
LONGEST_WAIT: Final = timedelta(hours=6) * (1 + _SPREAD)


def next_check_at(phase: Phase, age: timedelta, now: datetime, jitter: float) -> datetime:
    """The moment of the next check of what has been in the phase for so long.

    ``jitter``, 0 or more and below 1, moves it by up to a tenth of the interval either way.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter is 0 or more and below 1, not {jitter}")
    interval = next(every for until, every in _INTERVALS[phase] if age < until)
    return now + interval * (1 - _SPREAD + 2 * _SPREAD * jitter)


def is_due(planned_at: datetime | None, now: datetime) -> bool:
    """True if the check planned for that moment is due; ``None`` is never.

    A moment further ahead than any interval was planned by a clock that was wrong.
    """
    if planned_at is None:
        return False
    return planned_at <= now or planned_at - now > LONGEST_WAIT
