"""A ledger in Redis or Valkey: for a fleet of hosts that share their senders' limits.

Each question is one script that the server carries out as a whole, by its own clock: those of
the hosts that share it may differ. It is one server: a node of a cluster is refused.

A reservation has its number before it is asked for. So when no answer comes it can be asked for
again, or undone, whether it was carried out, is yet to be, or was lost.
"""

import asyncio
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import count
from typing import Final

from smtpgate.core.limits import (
    Charge,
    Counted,
    Crossing,
    LimitExceededError,
    LimitName,
    LimitStatus,
    Reservation,
    Subject,
    must_go_together,
    must_have_room,
    must_make_sense,
)
from smtpgate.core.moments import moment
from smtpgate.ledger.full import FullQuotas
from smtpgate.ledger.redis_link import InDoubtLedgerError, Link, Script
from smtpgate.ports import LedgerUnavailableError

# The number changes with the form of the values under the keys.
_PREFIX: Final = "smtpgate:1"
_LIMITS: Final[tuple[LimitName, ...]] = ("max-24h-send", "max-send-rate")
_PASSED: Final = 1
_LUA: Final = files("smtpgate.ledger") / "lua"

_PROBE_MS: Final = 60_000
STORE_CLOCK: Final = (_LUA / "clock.lua").read_text("utf-8")
"""The Lua function ``now_us``: the server's time in microseconds."""


def _script(clock: str, *names: str) -> Script:
    return Script("\n".join([clock, *((_LUA / name).read_text("utf-8") for name in names)]))


class RedisLedger:
    """Implements the Ledger port. It connects when it is first asked."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5,
        lease_s: float = 900,
        clock: str = STORE_CLOCK,
    ) -> None:
        """Nothing is connected yet; ``clock`` is Lua source like STORE_CLOCK.

        Raises ValueError for a URL that means nothing.
        """
        self._link = Link(url, timeout_s=timeout_s)
        self._lease_ms = int(lease_s * 1000)
        self._full = FullQuotas()
        self._reserve = _script(clock, "usage.lua", "reserve.lua")
        self._settle = _script(clock, "usage.lua", "settle.lua")
        self._limit_statuses = _script(clock, "usage.lua", "limit_statuses.lua")
        self._probe = _script(clock, "probe.lua")
        # Reservations of which an earlier copy may still reach the server.
        self._asked_again: set[int] = set()
        # Unlike those of any other process that has open reservations.
        self._ids = count((int.from_bytes(os.urandom(4)) >> 1) << 32)

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        """Count the recipients beforehand; raises LimitExceededError when they are too many."""
        must_make_sense(charges, recipients)
        number = next(self._ids)
        arguments = (recipients, self._lease_ms, *_limits(charges))
        try:
            answer = await self._link.call(self._reserve, _keys(number, charges), arguments)
        except (InDoubtLedgerError, asyncio.CancelledError):
            self._undo(number, charges, recipients)
            raise
        passed, *facts = answer.facts
        if passed != _PASSED:
            if answer.was_sent_again:
                self._undo(number, charges, recipients)
            refusal = _refusal(charges, recipients, facts)
            self._full.note_refused(refusal)
            raise refusal
        if answer.was_sent_again:
            self._asked_again.add(number)
        may_cross, *numbers = facts
        reservation = Reservation(
            number,
            recipients,
            now,
            tuple(charges),
            tuple(map(Counted, numbers[::2], numbers[1::2])),
            bool(may_cross),
        )
        self._full.note_passed(reservation)
        return reservation

    async def commit(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """Keep the recipients that the upstream accepted, or may have accepted."""
        may_come = reservation.id in self._asked_again
        self._asked_again.discard(reservation.id)
        if accepted == reservation.recipients and not reservation.may_cross:
            # No count changes, so the caller need not wait.
            self._link.owe(*self._settlement(reservation, accepted, may_come=may_come))
            return ()
        call = self._settlement(reservation, accepted, may_come=may_come)
        try:
            reported = (await self._link.call(*call)).facts
        except (LedgerUnavailableError, asyncio.CancelledError) as error:
            self._link.owe(*self._settlement(reservation.silent, accepted, may_come=may_come))
            if isinstance(error, asyncio.CancelledError):
                raise
            return ()
        charges = reservation.charges
        return tuple(
            Crossing(charges[at], percent, used)
            for at, percent, used in zip(
                reported[::3], reported[1::3], reported[2::3], strict=True
            )
        )

    async def refund(self, reservation: Reservation, now: datetime) -> None:
        """Give all recipients back. A reservation that is settled stays as it is."""
        await self.commit(reservation, 0, now)

    @property
    def has_full_quotas(self) -> bool:
        """False if no 24-hour quota was full when last seen."""
        return bool(len(self._full))

    async def check(self, charges: Sequence[Charge], now: datetime) -> None:
        """Raise LimitExceededError when a 24-hour quota has no room for even one recipient."""
        if not self._full.has_any(charges):
            return
        must_have_room(await self.limit_statuses(charges, now))
        self._full.forget(charges)

    async def limit_statuses(
        self, charges: Sequence[Charge], now: datetime
    ) -> tuple[LimitStatus, ...]:
        """The status of each charge; nothing is counted."""
        must_go_together(charges)
        keys = _subject_keys(charges)
        answer = (await self._link.call(self._limit_statuses, keys, _limits(charges))).facts
        return tuple(
            LimitStatus(charge, used, _span(quota_us), _number(rate_left), _span(rate_us))
            for charge, used, quota_us, rate_left, rate_us in zip(
                charges, *(answer[fact::4] for fact in range(4)), strict=True
            )
        )

    async def probe(self) -> datetime | None:
        """Write a key that counts nothing; a server that is full or a replica refuses it."""
        answer = await self._link.call(self._probe, [f"{_PREFIX}:probe"], (_PROBE_MS,))
        return moment(answer.facts[0])

    async def close(self) -> None:
        """Send the calls that wait, and disconnect."""
        await self._link.close()

    # -- calls of scripts --------------------------------------------------------------------

    def _settlement(
        self, reservation: Reservation, accepted: int, *, may_come: bool
    ) -> tuple[Script, list[str], tuple[str | int, ...]]:
        """The call that settles; it does nothing when it was settled, or its lease has ended.

        ``may_come`` says that an earlier copy of the reservation may still reach the server.
        """
        back = reservation.recipients - accepted
        may_report = int(accepted > 0 and reservation.may_cross)
        charges = reservation.charges
        keys = _keys(reservation.id, charges)
        if not back and not may_report:
            return self._settle, keys[:1], (0, 0, self._lease_ms, int(may_come), 0)
        settings = (back, may_report, self._lease_ms, int(may_come), reservation.only_rate)
        arguments = (*settings, *_limits(charges))
        return self._settle, keys, arguments

    def _undo(self, number: int, charges: Sequence[Charge], recipients: int) -> None:
        """Give back the recipients that a reservation counted, or may count later."""
        arguments = (recipients, 0, self._lease_ms, 1, 0, *_limits(charges))
        self._link.owe(self._settle, _keys(number, charges), arguments)


def _keys(number: int, charges: Sequence[Charge]) -> list[str]:
    account = _account_key(charges[0].subject)
    return [f"{account}:open:{number}", *_subject_keys(charges)]


def _subject_keys(charges: Sequence[Charge]) -> list[str]:
    subjects = (charge.subject for charge in charges)
    return [f"{_account_key(one)}:{one.kind}:{one.name}" for one in subjects]


def _account_key(subject: Subject) -> str:
    return f"{_PREFIX}:{{{subject.account_id}}}"


def _limits(charges: Sequence[Charge]) -> list[str | int]:
    words: list[str | int] = []
    for charge in charges:
        words += (charge.limits.max_24h_send, repr(float(charge.limits.max_send_rate_per_s)))
    return words


def _refusal(
    charges: Sequence[Charge], recipients: int, facts: Sequence[int]
) -> LimitExceededError:
    if not facts:
        raise LedgerUnavailableError("the reservation came too late")
    at, limit, wait_us, left = facts
    return LimitExceededError(
        charges[at],
        _LIMITS[limit],
        recipients=recipients,
        left=left,
        retry_after=_span(wait_us),
    )


def _span(wait_us: int) -> timedelta | None:
    return None if wait_us < 0 else timedelta(microseconds=wait_us)


def _number(answer: int) -> int | None:
    return None if answer < 0 else answer
