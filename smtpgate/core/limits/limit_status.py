"""The use and the rest of each limit now: reading only, nothing is counted."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits.charge import Charge, LimitExceededError, must_go_together
from smtpgate.core.limits.rate import passing, until_positive_us
from smtpgate.core.limits.usage import Usage, seen_at
from smtpgate.core.moments import microseconds

# Moments before and after all others.
_NOW: Final = -1
NEVER: Final = 1 << 62


class LimitStatus(Struct, frozen=True, gc=False, array_like=True):
    """The use of one subject's limits, and the rest that they allow now.

    ``quota_free_in`` is the time until a quota that is used up has room for one recipient.
    ``rate_left`` is the number of messages to one recipient each that the rate allows now, or
    ``None`` if it is unlimited; the last of them may cause a debt, so a message to many
    recipients passes if it is not 0. ``rate_free_in`` is the time until a rate at 0 allows one.

    A wait is ``None`` while something is left, and for a limit of 0, where nothing ever is.
    """

    charge: Charge
    used_24h: int
    quota_free_in: timedelta | None
    rate_left: int | None
    rate_free_in: timedelta | None

    @property
    def left(self) -> int | None:
        """The recipients that the quota allows now; ``None`` if it is unlimited."""
        return quota_left(self.charge.limits, self.used_24h)


def limit_statuses(
    usages: Sequence[Usage | None], charges: Sequence[Charge], now: datetime
) -> tuple[LimitStatus, ...]:
    """The status of each charge; usages in the order of the charges.

    ``None`` is the usage of a subject that has sent nothing. Raises ValueError as reserving
    does for charges that cannot be one message's.
    """
    must_go_together(charges)
    now_us = microseconds(now)
    current = [
        seen_at(usage, charge.limits, now_us)
        for usage, charge in zip(usages, charges, strict=True)
    ]
    return tuple(
        LimitStatus(
            charge,
            usage.window.used,
            _wait(quota_free_at_us(usage, charge.limits, 1), now_us),
            None if usage.tokens is None else passing(usage.tokens),
            _wait(rate_free_at_us(usage, charge.limits), now_us),
        )
        for usage, charge in zip(current, charges, strict=True)
    )


def must_have_room(found: Sequence[LimitStatus]) -> None:
    """Raise LimitExceededError if a 24-hour quota has no room for even one recipient.

    The error names the quota with the longest wait; of equals it is the first.
    """
    full = [limit_status for limit_status in found if limit_status.left == 0]
    if full:
        worst = max(
            full,
            key=lambda one: timedelta.max if one.quota_free_in is None else one.quota_free_in,
        )
        raise LimitExceededError(
            worst.charge, "max-24h-send", recipients=1, left=0, retry_after=worst.quota_free_in
        )


def quota_left(limits: SendingLimits, used_24h: int) -> int | None:
    """The recipients that still fit into the quota; ``None`` if it is unlimited."""
    quota = limits.max_24h_send
    return None if quota == UNLIMITED else max(0, quota - used_24h)


def quota_free_at_us(usage: Usage, limits: SendingLimits, recipients: int) -> int:
    """The moment from which that many recipients fit into the quota."""
    quota, window = limits.max_24h_send, usage.window
    if quota == UNLIMITED or window.used + recipients <= quota:
        return _NOW
    return NEVER if recipients > quota else window.frees_at_us(quota - recipients)


def rate_free_at_us(usage: Usage, limits: SendingLimits) -> int:
    """The moment from which the bucket has any tokens."""
    if usage.tokens is None or usage.tokens > 0:
        return _NOW
    rate = limits.max_send_rate_per_s
    return NEVER if rate == 0 else usage.as_of_us + until_positive_us(usage.tokens, rate)


def _wait(at_us: int, now_us: int) -> timedelta | None:
    return None if at_us in {_NOW, NEVER} else timedelta(microseconds=at_us - now_us)
