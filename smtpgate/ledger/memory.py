"""A ledger in this process's memory: a restart forgets it, and processes count apart."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import (
    Charge,
    Crossing,
    LimitStatus,
    Reservation,
    Subject,
    Usage,
    attempt,
    idle_at_us,
    is_long_over,
    is_within_lease,
    limit_statuses,
    must_have_room,
    settle,
)
from smtpgate.core.moments import microseconds

# Checked with each reservation: more than one, so that states are deleted faster than made.
_SWEPT_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class _Entry:
    usage: Usage
    limits: SendingLimits


class MemoryLedger:
    """Implements the Ledger port. No method waits, so none can see another's work half done.

    A subject is deleted a day after its recipients count no longer, and a reservation that
    is not settled a day after its lease: memory is bounded by two days' senders.
    """

    def __init__(self, *, lease_s: float = 900) -> None:
        self._lease = timedelta(seconds=lease_s)
        self._entries: OrderedDict[Subject, _Entry] = OrderedDict()
        self._open: OrderedDict[int, int] = OrderedDict()  # the moment of each, in microseconds
        self._ids = count(1)

    def __len__(self) -> int:
        """The number of subjects with usage, and of open reservations."""
        return len(self._entries) + len(self._open)

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        """Count the recipients beforehand; raises LimitExceededError when they are too many."""
        self._forget_old(now)
        tried = attempt(self._usages(charges), charges, recipients, now)
        self._keep(charges, tried.usages)
        if tried.refusal is not None:
            raise tried.refusal
        reservation = Reservation(
            next(self._ids), recipients, now, tuple(charges), tried.counted, tried.may_cross
        )
        self._open[reservation.id] = microseconds(now)
        return reservation

    async def commit(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """Keep the recipients that the upstream accepted, or may have accepted."""
        at_us = self._open.pop(reservation.id, None)
        if at_us is None or not is_within_lease(at_us, now, self._lease):
            return ()
        charges = reservation.charges
        settled = settle(self._usages(charges), reservation, accepted, now)
        self._keep(charges, settled.usages)
        return settled.crossings

    async def refund(self, reservation: Reservation, now: datetime) -> None:
        """Give all recipients back. A reservation that is settled stays as it is."""
        await self.commit(reservation, 0, now)

    @property
    def has_full_quotas(self) -> bool:
        """False if no 24-hour quota was full when last seen."""
        return True  # nobody keeps track, and to look costs nothing

    async def check(self, charges: Sequence[Charge], now: datetime) -> None:
        """Raise LimitExceededError when a 24-hour quota has no room for even one recipient."""
        must_have_room(await self.limit_statuses(charges, now))

    async def limit_statuses(
        self, charges: Sequence[Charge], now: datetime
    ) -> tuple[LimitStatus, ...]:
        """The status of each charge; nothing is counted."""
        return limit_statuses(self._usages(charges), charges, now)

    async def probe(self) -> datetime | None:
        """Memory can always be written."""
        return None

    async def close(self) -> None:
        """Close nothing: there is neither a file nor a connection."""

    def _usages(self, charges: Sequence[Charge]) -> list[Usage | None]:
        entries = (self._entries.get(charge.subject) for charge in charges)
        return [entry.usage if entry else None for entry in entries]

    def _keep(self, charges: Sequence[Charge], usages: Sequence[Usage | None]) -> None:
        for charge, usage in zip(charges, usages, strict=True):
            if usage is not None:
                self._entries[charge.subject] = _Entry(usage, charge.limits)

    def _forget_old(self, now: datetime) -> None:
        """Look at some subjects and reservations, the next ones each time."""
        now_us = microseconds(now)
        for _ in range(min(_SWEPT_AT_ONCE, len(self._entries))):
            subject, entry = self._entries.popitem(last=False)
            if idle_at_us(entry.usage, entry.limits) > now_us:
                self._entries[subject] = entry
        for _ in range(min(_SWEPT_AT_ONCE, len(self._open))):
            reservation_id, at_us = self._open.popitem(last=False)
            if not is_long_over(at_us, now, self._lease):
                self._open[reservation_id] = at_us
