"""A ledger in this process's memory: a restart forgets it, and processes count apart."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import (
    BUCKET,
    WINDOW,
    Reservation,
    Usage,
    is_idle,
    refund,
    reserve,
    seen_at,
    used_24h,
)

__all__ = ["MemoryLedger"]

_KEPT: Final = WINDOW + BUCKET
_NOTHING: Final = timedelta(0)
# Looked at with every reservation: more than one, so that forgetting outruns remembering.
_SWEPT_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class _Entry:
    usage: Usage
    limits: SendingLimits


class MemoryLedger:
    """Implements the Ledger port. No method waits, so none can see another's work half done.

    An account is forgotten when nothing that it sent counts any longer, and a reservation that
    nobody settles when its recipients no longer count: memory is bounded by a day's senders.
    """

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Entry] = OrderedDict()
        self._open: dict[int, Reservation] = {}
        self._ids = count(1)

    def __len__(self) -> int:
        """How many accounts are remembered."""
        return len(self._accounts)

    @property
    def open_reservations(self) -> int:
        """How many reservations are neither committed nor refunded."""
        return len(self._open)

    async def reserve(
        self, account_id: str, limits: SendingLimits, recipients: int, now: datetime
    ) -> Reservation:
        """Count the recipients beforehand; raises LimitExceededError when they are too many."""
        self._forget_idle(now)
        entry = self._accounts.get(account_id)
        usage = entry.usage if entry else None
        if usage is not None and now < usage.as_of:
            # Kept also when it is refused: the wait must not start anew with each attempt.
            usage = seen_at(usage, limits, now)
            self._accounts[account_id] = _Entry(usage, limits)
        usage = reserve(usage, limits, recipients, now)
        self._accounts[account_id] = _Entry(usage, limits)
        self._accounts.move_to_end(account_id)
        reservation = Reservation(next(self._ids), account_id, recipients, usage.as_of)
        self._open[reservation.id] = reservation
        return reservation

    async def commit(self, reservation: Reservation) -> None:
        """The upstream accepted (or may have accepted) them: they stay counted."""
        self._open.pop(reservation.id, None)

    async def refund(self, reservation: Reservation) -> None:
        """Nothing was accepted: they are counted no longer. What was settled stays as it is."""
        if self._open.pop(reservation.id, None) is None:
            return
        entry = self._accounts.get(reservation.account_id)
        if entry is not None:
            usage = refund(entry.usage, reservation)
            self._accounts[reservation.account_id] = _Entry(usage, entry.limits)

    async def used_24h(self, account_id: str, now: datetime) -> int:
        """Recipients counted in the last 24 hours."""
        entry = self._accounts.get(account_id)
        return used_24h(entry.usage if entry else None, now)

    def _forget_idle(self, now: datetime) -> None:
        """Look at the accounts and reservations that have waited longest."""
        for _ in range(min(_SWEPT_AT_ONCE, len(self._accounts))):
            account_id, entry = next(iter(self._accounts.items()))
            if _NOTHING <= now - entry.usage.as_of < _KEPT:
                break
            if is_idle(entry.usage, entry.limits, now):
                del self._accounts[account_id]
                continue
            # It owes tokens, or the clock was set back: it must not hide the ones behind it.
            usage = seen_at(entry.usage, entry.limits, now)
            self._accounts[account_id] = _Entry(usage, entry.limits)
            self._accounts.move_to_end(account_id)
        for _ in range(min(_SWEPT_AT_ONCE, len(self._open))):
            oldest = next(iter(self._open.values()))
            if _NOTHING <= now - oldest.at < _KEPT:
                break
            del self._open[oldest.id]
            if oldest.at > now:
                self._open[oldest.id] = oldest
