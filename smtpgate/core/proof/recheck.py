"""The times of DNS checks: frequent while an owner waits for the result, rare later."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

CheckPhase = Literal["pending", "success", "missing", "signing"]

_FOREVER: Final = timedelta.max
# For each phase, the interval of checks up to an age.
_INTERVALS: Final[Mapping[CheckPhase, tuple[tuple[timedelta, timedelta], ...]]] = {
    "pending": (
        (timedelta(hours=1), timedelta(minutes=1)),
        (timedelta(hours=6), timedelta(minutes=5)),
        (_FOREVER, timedelta(minutes=30)),
    ),
    "success": ((_FOREVER, timedelta(hours=6)),),
    "missing": ((_FOREVER, timedelta(hours=1)),),
    "signing": ((_FOREVER, timedelta(hours=1)),),
}
_SPREAD: Final = 0.1  # checks that began together must not stay together
# No check is further ahead than this, unless the clock was set back after it was planned.
LONGEST_WAIT: Final = timedelta(hours=6) * (1 + _SPREAD)


def next_check_at(phase: CheckPhase, age: timedelta, now: datetime, jitter: float) -> datetime:
    """The moment of the next check of an identity or key that is in the phase for an age.

    ``jitter``, 0 or more and below 1, moves it by up to a tenth of the interval either way.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter is 0 or more and below 1, not {jitter}")
    interval = next(every for until, every in _INTERVALS[phase] if age < until)
    return now + interval * (1 - _SPREAD + 2 * _SPREAD * jitter)


def is_due(planned_at: datetime | None, now: datetime) -> bool:
    """True if the check planned for that moment is due; ``None`` is never.

    A moment further ahead than any interval was planned while the clock was wrong.
    """
    if planned_at is None:
        return False
    return planned_at <= now or planned_at - now > LONGEST_WAIT
