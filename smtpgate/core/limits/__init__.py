"""Sending limits as arithmetic: a rolling 24 hours and a rate, both counted in recipients.

Bottom-up: ``window`` is the rolling 24 hours, ``rate`` the token bucket, ``charge`` the
subjects of a message and the refusal, ``usage`` both limits of one subject, ``limit_status``
the rest that is left now, ``reservation`` the counting of one message against several subjects
at once, all of them or none.

A store keeps one :class:`Usage` a subject and applies these functions to it: the counting is
the same in every store.
"""

from smtpgate.core.limits.charge import (
    Charge,
    LimitExceededError,
    LimitName,
    Subject,
    SubjectKind,
    clock_time,
    must_go_together,
)
from smtpgate.core.limits.limit_status import LimitStatus, limit_statuses, must_have_room
from smtpgate.core.limits.reservation import (
    Counted,
    Reservation,
    attempt,
    is_long_over,
    is_within_lease,
    must_make_sense,
    over_before_us,
    settle,
)
from smtpgate.core.limits.usage import (
    THRESHOLDS,
    TOLERANCE,
    Crossing,
    Usage,
    idle_at_us,
    refund,
    seen_at,
)
from smtpgate.core.limits.window import BUCKET, WINDOW, Window, minute_of

__all__ = [
    "BUCKET",
    "THRESHOLDS",
    "TOLERANCE",
    "WINDOW",
    "Charge",
    "Counted",
    "Crossing",
    "LimitExceededError",
    "LimitName",
    "LimitStatus",
    "Reservation",
    "Subject",
    "SubjectKind",
    "Usage",
    "Window",
    "attempt",
    "clock_time",
    "idle_at_us",
    "is_long_over",
    "is_within_lease",
    "limit_statuses",
    "minute_of",
    "must_go_together",
    "must_have_room",
    "must_make_sense",
    "over_before_us",
    "refund",
    "seen_at",
    "settle",
]
