"""How much of each limit is used and left now: it is only read, and nothing is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits.charge import Charge, LimitExceededError, must_go_together
from smtpgate.core.limits.rate import passing, until_positive_us
from smtpgate.core.limits.usage import Usage, microseconds, seen_at

# Moments before and after all others.
_NOW: Final = -1
NEVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Standing:
    """What one subject has used of its limits, and what they would let pass now.

    ``frees_in`` is how long until the quota, used up now, has room for one recipient.
    ``rate_left`` is how many messages to one recipient each the rate would let pass at once,
    or ``None`` when it is unlimited; the last of them may borrow, so a message to many passes
    whenever it is not 0. ``lends_in`` is how long until the rate, at 0 now, lets one pass.

    A wait is ``None`` while something is left, and when nothing ever will be: nothing left and
    no wait is a limit of 0.
    """

    charge: Charge
    used_24h: int
    frees_in: timedelta | None
    rate_left: int | None
    lends_in: timedelta | None

    @property
    def left(self) -> int | None:
        """The recipients that the quota would let pass now; ``None`` when it is unlimited."""
        return quota_left(self.charge.limits, self.used_24h)


def standings(
    usages: Sequence[Usage | None], charges: Sequence[Charge], now: datetime
) -> tuple[Standing, ...]:
    """How each charge stands; usages in the order of the charges.

    ``None`` is the usage of a subject that has sent nothing. Raises ValueError as reserving
    does for charges that cannot be one message's.
    """
    must_go_together(charges)
    now_us = microseconds(now)
    held = all_seen(usages, charges, now_us)
    return tuple(
        Standing(
            charge,
            usage.window.used,
            _wait(room_at_us(usage, charge.limits, 1), now_us),
            None if usage.tokens is None else passing(usage.tokens),
            _wait(lends_at_us(usage, charge.limits), now_us),
        )
        for usage, charge in zip(held, charges, strict=True)
    )


def must_have_room(found: Sequence[Standing]) -> None:
    """Raise LimitExceededError when a 24-hour quota has no room for even one recipient.

    It tells of the one with the longest wait; of equals it is the first.
    """
    full = [standing for standing in found if standing.left == 0]
    if full:
        worst = max(
            full, key=lambda one: timedelta.max if one.frees_in is None else one.frees_in
        )
        raise LimitExceededError(
            worst.charge, "max-24h-send", recipients=1, left=0, retry_after=worst.frees_in
        )


def all_seen(
    usages: Sequence[Usage | None], charges: Sequence[Charge], now_us: int
) -> list[Usage]:
    """The usages as seen now."""
    return [
        seen_at(usage or Usage.nothing(now_us), charge.limits, now_us)
        for usage, charge in zip(usages, charges, strict=True)
    ]


def quota_left(limits: SendingLimits, used_24h: int) -> int | None:
    """The recipients that still fit into the quota; ``None`` when it is unlimited."""
    quota = limits.max_24h_send
    return None if quota == UNLIMITED else max(0, quota - used_24h)


def room_at_us(usage: Usage, limits: SendingLimits, recipients: int) -> int:
    """The moment from which so many fit into the quota."""
    quota, window = limits.max_24h_send, usage.window
    if quota == UNLIMITED or window.used + recipients <= quota:
        return _NOW
    return NEVER if recipients > quota else window.frees_at_us(quota - recipients)


def lends_at_us(usage: Usage, limits: SendingLimits) -> int:
    """The moment from which the bucket holds something."""
    if usage.tokens is None or usage.tokens > 0:
        return _NOW
    rate = limits.max_send_rate_per_s
    return NEVER if rate == 0 else usage.as_of_us + until_positive_us(usage.tokens, rate)


def _wait(at_us: int, now_us: int) -> timedelta | None:
    return None if at_us in {_NOW, NEVER} else timedelta(microseconds=at_us - now_us)
