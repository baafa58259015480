"""The usage of one subject: its rolling 24 hours, its tokens, and its reported thresholds."""

from datetime import timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits.charge import Charge
from smtpgate.core.limits.rate import TOKEN, earned, until_full_us
from smtpgate.core.limits.window import BUCKET_US, BUCKETS, WINDOW, Window, minute_of

# Messages in flight together are counted slightly out of order, and clocks are set back a
# little. Until the clock has caught up no token is earned, so this is short. A time further
# back is accepted as it is: no sender waits for a time that a clock showed in error.
TOLERANCE: Final = timedelta(seconds=5)
_MICROSECOND: Final = timedelta(microseconds=1)
_TOLERANCE_US: Final = TOLERANCE // _MICROSECOND
_SPARE_US: Final = WINDOW // _MICROSECOND
# Per cent of the 24-hour quota whose use is reported.
THRESHOLDS: Final = (80, 90, 100)
# The quota of the last report, and for each threshold the minute of its last report.
Reported = tuple[int, ...]
_NEVER: Final = -1


class Usage(Struct, frozen=True, gc=False):
    """The usage of a subject, as of a moment in microseconds since 1970.

    ``tokens`` is in millionths; ``None`` stands for a full bucket.
    """

    as_of_us: int
    window: Window
    tokens: int | None = None
    reported: Reported | None = None

    @classmethod
    def nothing(cls, now_us: int) -> "Usage":
        """The usage of a subject that has sent nothing."""
        return cls(now_us, Window(minute_of(now_us)))


class Crossing(Struct, frozen=True, gc=False, array_like=True):
    """A subject has used that many per cent of its 24-hour quota."""

    charge: Charge
    percent: int
    used_24h: int


def moved_back(usage: Usage, now_us: int) -> bool:
    """True if the clock was set back since, by more than the tolerance."""
    return now_us < usage.as_of_us - _TOLERANCE_US


def seen_at(
    usage: Usage | None, limits: SendingLimits, now_us: int, recipients: int = 0
) -> Usage:
    """The same usage as of now, without old counts, with the tokens earned; and recipients.

    Now is not before the last moment, unless the clock was set back. ``None`` is the usage of a
    subject that has sent nothing.
    """
    if usage is None:
        usage = Usage.nothing(now_us)
    as_of_us, reported = usage.as_of_us, usage.reported
    moment, passed_us = now_us, now_us - as_of_us
    if passed_us < 0:
        moment = now_us if passed_us < -_TOLERANCE_US else as_of_us
        passed_us = 0
    window, minute = usage.window, moment // BUCKET_US
    if window.minute != minute:
        window = window.seen_at(minute)
    tokens = earned(usage.tokens, limits.max_send_rate_per_s, passed_us)
    if recipients:
        window = window.plus(recipients)
        if tokens is not None:
            tokens -= recipients * TOKEN
    if reported is not None and moment < as_of_us:
        reported = (reported[0], *(min(at, window.minute) for at in reported[1:]))
    return Usage(moment, window, tokens, reported)


def refund(usage: Usage, minute: int, recipients: int, only_quota: int = 0) -> Usage:
    """Refund recipients that were counted in that minute, to both limits.

    ``only_quota`` of them are refunded to the quota and stay counted for the rate.
    """
    tokens = usage.tokens
    if tokens is not None:
        tokens += (recipients - only_quota) * TOKEN  # what overflows is cut off later
    return replace(usage, window=usage.window.minus(minute, recipients), tokens=tokens)


def reached(usage: Usage, limits: SendingLimits) -> tuple[int, ...]:
    """The thresholds that are reached, and were not reported in the last 24 hours."""
    quota, window = limits.max_24h_send, usage.window
    if quota == UNLIMITED or window.used * 100 < quota * THRESHOLDS[0]:
        return ()
    return tuple(
        percent
        for percent, reported_at in zip(
            THRESHOLDS, _reported_at(usage.reported, quota), strict=True
        )
        if window.used * 100 >= quota * percent and reported_at <= window.minute - (BUCKETS - 1)
    )


def report_crossings(usage: Usage, charge: Charge) -> tuple[Usage, tuple[Crossing, ...]]:
    """The thresholds to report now, and the usage with their report."""
    percents = reached(usage, charge.limits)
    if not percents:
        return usage, ()
    quota, minute = charge.limits.max_24h_send, usage.window.minute
    at = tuple(
        minute if percent in percents else reported_at
        for percent, reported_at in zip(
            THRESHOLDS, _reported_at(usage.reported, quota), strict=True
        )
    )
    crossings = tuple(Crossing(charge, percent, usage.window.used) for percent in percents)
    return replace(usage, reported=(quota, *at)), crossings


def _reported_at(reported: Reported | None, quota: int) -> tuple[int, ...]:
    """The minute in which each threshold was reported for this quota."""
    return (
        reported[1:]
        if reported is not None and reported[0] == quota
        else (_NEVER,) * len(THRESHOLDS)
    )


def idle_at_us(usage: Usage, limits: SendingLimits) -> int:
    """The moment from which the usage may be deleted: no counts, no debt, no recent report.

    It has a spare day, so that usage is not lost if the clock is set back.
    """
    counts_until = (usage.window.minute + BUCKETS) * BUCKET_US
    owes_until = usage.as_of_us + until_full_us(usage.tokens, limits.max_send_rate_per_s)
    return max(counts_until, owes_until) + _SPARE_US
