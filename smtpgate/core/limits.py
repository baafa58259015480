"""Sending limits as arithmetic: a rolling 24 hours and a rate, both counted in recipients.

The rolling window is kept as one count a minute. A recipient is counted for 24 hours and at
most one minute more, never less: no window of 24 hours holds more than the quota, and the error
is one bucket. The rate is a token bucket that lends: while it holds anything at all a message
passes, however many recipients it has, and what it took too much is earned back before the next
one passes. So a message with many recipients is never stuck for ever.

Tokens are whole millionths, so that what a refund gives back is exactly what was taken.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Final, Literal

from smtpgate.core.account import UNLIMITED, SendingLimits

__all__ = [
    "BUCKET",
    "WINDOW",
    "LimitExceededError",
    "LimitName",
    "Reservation",
    "Usage",
    "is_idle",
    "refund",
    "reserve",
    "seen_at",
    "used_24h",
]

LimitName = Literal["max-24h-send", "max-send-rate"]

WINDOW: Final = timedelta(hours=24)
BUCKET: Final = timedelta(minutes=1)
_BUCKET_S: Final = 60
# The bucket that now is in, and every one that reaches into the 24 hours before now.
_BUCKETS: Final = WINDOW // BUCKET + 1
_TOKEN: Final = 1_000_000
_VERY_LONG_S: Final = 366 * 86400
_MICROSECOND: Final = timedelta(microseconds=1)
# Messages in hand at once may be counted a little out of their order. A time further back than
# this means that the clock was set back.
_OUT_OF_ORDER: Final = timedelta(seconds=10)


class LimitExceededError(Exception):
    """A sending limit would be exceeded; nothing was counted.

    ``left`` is how many recipients the limit would let pass now, ``retry_after`` how long it
    takes at most until these would pass if nothing else is sent.
    """

    def __init__(self, limit: LimitName, retry_after: timedelta, left: int) -> None:
        super().__init__(limit, retry_after, left)
        self.limit = limit
        self.retry_after = retry_after
        self.left = left

    def __str__(self) -> str:
        seconds = max(0, round(self.retry_after.total_seconds()))
        return f"{self.left} recipients left now, try again in {seconds} s"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Recipients counted beforehand for one message, to be committed or refunded."""

    id: int
    account_id: str
    recipients: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What one account has sent, as of a moment.

    ``counts`` has the recipients of each minute, from the oldest with any to that of ``as_of``;
    ``used`` is their sum. ``tokens`` is in millionths; ``None`` stands for a full bucket.
    """

    as_of: datetime
    counts: tuple[int, ...] = (0,)
    used: int = 0
    tokens: int | None = None


def reserve(
    usage: Usage | None, limits: SendingLimits, recipients: int, now: datetime
) -> Usage:
    """Count the recipients; ``None`` is an account that has sent nothing.

    The result's ``as_of`` is the moment at which they were counted. Raises LimitExceededError.
    """
    if recipients < 1:
        raise ValueError(f"a message has at least one recipient, not {recipients}")
    held = seen_at(usage or Usage(now), limits, now)
    quota = limits.max_24h_send
    if quota != UNLIMITED and held.used + recipients > quota:
        wait = _until_room(held, quota - recipients)
        raise LimitExceededError("max-24h-send", wait, max(0, quota - held.used))
    tokens = held.tokens
    if tokens is not None:
        if tokens <= 0:
            wait = _until_positive(tokens, limits.max_send_rate_per_s)
            raise LimitExceededError("max-send-rate", wait, 0)
        tokens -= recipients * _TOKEN
    counts = (*held.counts[:-1], held.counts[-1] + recipients)
    return Usage(held.as_of, counts, held.used + recipients, tokens)


def refund(usage: Usage, reservation: Reservation) -> Usage:
    """Give back to both limits what the reservation took."""
    # When the clock was set back, its recipients were moved to the last bucket.
    age = max(0, _minute(usage.as_of) - _minute(reservation.at))
    counts, taken = usage.counts, 0
    if age < len(counts):
        at = len(counts) - 1 - age
        taken = min(counts[at], reservation.recipients)
        counts = _trimmed((*counts[:at], counts[at] - taken, *counts[at + 1 :]))
    tokens = usage.tokens
    if tokens is not None:
        tokens += reservation.recipients * _TOKEN  # more than the bucket holds is cut off later
    return replace(usage, counts=counts, used=usage.used - taken, tokens=tokens)


def used_24h(usage: Usage | None, now: datetime) -> int:
    """The recipients counted in the last 24 hours."""
    return 0 if usage is None else _window(usage, _moment(usage, now))[1]


def is_idle(usage: Usage, limits: SendingLimits, now: datetime) -> bool:
    """Whether the account may be forgotten: nothing is counted, and it owes no tokens."""
    held = seen_at(usage, limits, now)
    return held.used == 0 and (held.tokens is None or held.tokens >= _depth(limits))


def seen_at(usage: Usage, limits: SendingLimits, now: datetime) -> Usage:
    """The same usage as seen now: old counts gone, tokens earned."""
    moment = _moment(usage, now)
    counts, used = _window(usage, moment)
    return Usage(moment, counts, used, _tokens(usage, limits, moment))


def _moment(usage: Usage, now: datetime) -> datetime:
    """The moment to count at: now, but not before the last one, unless the clock was set back.

    A clock that was ahead and is right again must not leave the account waiting for the time
    that it showed: what was counted stays counted, as if it were sent now.
    """
    is_late = usage.as_of - _OUT_OF_ORDER <= now < usage.as_of
    return usage.as_of if is_late else now


def _window(usage: Usage, moment: datetime) -> tuple[tuple[int, ...], int]:
    """The counts that matter at that moment, and their sum."""
    counts = usage.counts
    passed = _minute(moment) - _minute(usage.as_of)
    if passed == 0:
        return counts, usage.used
    if passed < 0:  # the clock was set back
        kept = counts[:passed]
        last = sum(counts[len(kept) - 1 :]) if kept else usage.used
        return (*kept[:-1], last), usage.used
    if passed >= _BUCKETS or usage.used == 0:
        return (0,), 0
    counts = _trimmed((counts + (0,) * passed)[-_BUCKETS:])
    return counts, sum(counts)


def _trimmed(counts: tuple[int, ...]) -> tuple[int, ...]:
    """The counts from the first that is not 0, so that one usage has one form."""
    first = next((at for at, count in enumerate(counts) if count), len(counts) - 1)
    return counts[first:]


def _tokens(usage: Usage, limits: SendingLimits, moment: datetime) -> int | None:
    if limits.max_send_rate_per_s == UNLIMITED:
        return None
    depth = _depth(limits)
    if usage.tokens is None or usage.tokens >= depth:
        return depth
    passed_us = max(0, (moment - usage.as_of) // _MICROSECOND)
    earned = passed_us * limits.max_send_rate_per_s  # one a second is a millionth a microsecond
    return usage.tokens + int(min(earned, depth - usage.tokens))


def _depth(limits: SendingLimits) -> int:
    rate = limits.max_send_rate_per_s
    return int(max(rate, 1) * _TOKEN) if rate else 0


def _until_room(usage: Usage, wanted_used: int) -> timedelta:
    """How long until no more than that is counted; past the window when that is never."""
    if wanted_used < 0:
        return WINDOW + BUCKET
    used, gone = usage.used, 0
    while used > wanted_used:
        used -= usage.counts[gone]
        gone += 1
    last_minute = _minute(usage.as_of) - (len(usage.counts) - gone)
    gone_at_s = (last_minute + _BUCKETS) * _BUCKET_S
    return timedelta(seconds=ceil(gone_at_s - usage.as_of.timestamp()))


def _until_positive(tokens: int, rate: float) -> timedelta:
    """How long until the bucket holds something; a day when it never earns anything."""
    if rate == 0:
        return WINDOW
    # Two millionths above nothing: what is earned is cut to whole millionths.
    return timedelta(seconds=ceil(min((2 - tokens) / _TOKEN / rate, _VERY_LONG_S)))


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // _BUCKET_S)
