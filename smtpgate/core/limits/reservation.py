"""Counting one message against several subjects at once: all of them, or none.

Recipients are counted when they are reserved, before the message is relayed. To settle a
reservation refunds the recipients that the upstream did not accept. A reservation that is not
settled within the lease stays counted: its process may have ended after the upstream had the
message, and the sum must not be too small. So the sum in the store is right at every moment,
also when a process is killed.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits.charge import Charge, LimitExceededError, LimitName, must_go_together
from smtpgate.core.limits.limit_status import (
    NEVER,
    quota_free_at_us,
    quota_left,
    rate_free_at_us,
)
from smtpgate.core.limits.rate import TOKEN
from smtpgate.core.limits.usage import (
    Crossing,
    Usage,
    moved_back,
    reached,
    refund,
    report_crossings,
    seen_at,
)
from smtpgate.core.limits.window import WINDOW
from smtpgate.core.moments import microseconds

_MICROSECOND: Final = timedelta(microseconds=1)
_USED_24H: Final = attrgetter("used_24h")


class Counted(Struct, frozen=True, gc=False, array_like=True):
    """The count of a reservation for one charge: its minute, and the sum with it."""

    minute: int
    used_24h: int


class Reservation(Struct, frozen=True, gc=False, array_like=True):
    """The recipients of one message, counted before the relay, to be committed or refunded.

    ``counted`` is in the order of the charges. ``may_cross``: a threshold may be reported when
    it is committed. ``only_rate`` of the recipients that are not committed stay counted for the
    rate.
    """

    id: int
    recipients: int
    at: datetime
    charges: tuple[Charge, ...]
    counted: tuple[Counted, ...]
    may_cross: bool = False
    only_rate: int = 0

    @property
    def account_id(self) -> str:
        """The sending account."""
        return self.charges[0].subject.account_id

    @property
    def used(self) -> tuple[int, ...]:
        """The use of each subject in 24 hours, with these recipients."""
        return tuple(map(_USED_24H, self.counted))

    def with_only_rate(self, recipients: int) -> "Reservation":
        """The same with so many recipients that stay counted for the rate alone."""
        return replace(self, only_rate=recipients)

    @property
    def silent(self) -> "Reservation":
        """The same for no caller that could report thresholds: the next message does."""
        return replace(self, may_cross=False) if self.may_cross else self


class Attempt(Struct, frozen=True, gc=False):
    """The result of an attempt to reserve: the usage to store for each charge, and the refusal.

    ``at_us`` is the moment of the attempt. A refusal may change the usage too: after the clock
    was set back, the wait must not begin again with each attempt.
    """

    at_us: int
    usages: tuple[Usage | None, ...]
    counted: tuple[Counted, ...] = ()
    may_cross: bool = False
    refusal: LimitExceededError | None = None


class Settlement(Struct, frozen=True, gc=False):
    """The result of a settled reservation: the usages to store, the thresholds to report."""

    usages: tuple[Usage | None, ...]
    crossings: tuple[Crossing, ...] = ()


def attempt(
    usages: Sequence[Usage | None], charges: Sequence[Charge], recipients: int, now: datetime
) -> Attempt:
    """Count the recipients for every charge, or for none; usages in the order of the charges.

    ``None`` is the usage of a subject that has sent nothing. Raises ValueError if there is
    nothing to count, or nothing to charge.
    """
    must_make_sense(charges, recipients)
    if len(usages) != len(charges):
        raise ValueError(f"{len(charges)} charges have {len(usages)} usages")
    now_us = microseconds(now)
    after: list[Usage] = []
    found: list[Counted] = []
    may_cross = False
    for at, charge in enumerate(charges):
        limits = charge.limits
        new = seen_at(usages[at], limits, now_us, recipients)
        if not _is_within(new, limits, recipients):
            return _refused(usages, charges, recipients, now_us)
        window = new.window
        after.append(new)
        found.append(Counted(window.minute, window.used))
        if reached(new, limits):
            may_cross = True
    return Attempt(now_us, tuple(after), tuple(found), may_cross)


def _refused(
    usages: Sequence[Usage | None], charges: Sequence[Charge], recipients: int, now_us: int
) -> Attempt:
    """The refusal by the limits of one or more of the charges."""
    current = [
        seen_at(usage, charge.limits, now_us)
        for usage, charge in zip(usages, charges, strict=True)
    ]
    kept = tuple(
        seen if usage is not None and moved_back(usage, now_us) else usage
        for usage, seen in zip(usages, current, strict=True)
    )
    return Attempt(now_us, kept, refusal=_refusal(current, charges, recipients, now_us))


def settle(
    usages: Sequence[Usage | None], reservation: Reservation, accepted: int, now: datetime
) -> Settlement:
    """Refund the recipients that were not accepted; report thresholds for the others.

    The reservation must still be open, which the store knows.
    """
    back, now_us = reservation.recipients - accepted, microseconds(now)
    after: list[Usage | None] = []
    crossings: list[Crossing] = []
    both = zip(reservation.charges, reservation.counted, strict=True)
    for usage, (charge, entry) in zip(usages, both, strict=True):
        if usage is not None and back:
            usage = refund(usage, entry.minute, back, reservation.only_rate)  # noqa: PLW2901 - two steps of one value
        if usage is not None and accepted and reservation.may_cross:
            usage, reported = report_crossings(seen_at(usage, charge.limits, now_us), charge)  # noqa: PLW2901
            crossings += reported
        after.append(usage)
    return Settlement(tuple(after), tuple(crossings))


def is_within_lease(at_us: int, now: datetime, lease: timedelta) -> bool:
    """True if a reservation of that moment can still be refunded."""
    return microseconds(now) - at_us <= lease // _MICROSECOND


def is_long_over(at_us: int, now: datetime, lease: timedelta) -> bool:
    """True if the reservation may be deleted: a day after its lease, as usage is."""
    return at_us < over_before_us(now, lease)


def over_before_us(now: datetime, lease: timedelta) -> int:
    """The moment before which reservations may be deleted."""
    return microseconds(now) - (lease + WINDOW) // _MICROSECOND


def must_make_sense(charges: Sequence[Charge], recipients: int) -> None:
    """Raise ValueError if there is nothing to count, or nothing to charge."""
    if recipients < 1:
        raise ValueError(f"a message has at least one recipient, not {recipients}")
    must_go_together(charges)


def _refusal(
    current: Sequence[Usage], charges: Sequence[Charge], recipients: int, now_us: int
) -> LimitExceededError:
    """The refusal with the longest wait; of equals the first charge's, the quota's first."""
    found = [
        one
        for usage, charge in zip(current, charges, strict=True)
        for one in _waits(usage, charge, recipients)
    ]
    free_at_us, charge, limit, left = max(found, key=itemgetter(0))
    wait = None if free_at_us == NEVER else timedelta(microseconds=free_at_us - now_us)
    return LimitExceededError(charge, limit, recipients=recipients, left=left, retry_after=wait)


def _waits(
    usage: Usage, charge: Charge, recipients: int
) -> Iterator[tuple[int, Charge, LimitName, int]]:
    """Of each limit: the moment from which the recipients pass, and what is left until then."""
    limits = charge.limits
    left = quota_left(limits, usage.window.used)
    if left is not None:
        yield quota_free_at_us(usage, limits, recipients), charge, "max-24h-send", left
    yield rate_free_at_us(usage, limits), charge, "max-send-rate", 0


def _is_within(usage: Usage, limits: SendingLimits, recipients: int) -> bool:
    """True if neither limit refuses the recipients that the usage has, as almost always."""
    quota, tokens = limits.max_24h_send, usage.tokens
    has_tokens = tokens is None or tokens > -recipients * TOKEN
    return has_tokens and (quota == UNLIMITED or usage.window.used <= quota)
