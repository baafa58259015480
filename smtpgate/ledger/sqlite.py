"""A ledger in a SQLite file: shared by all processes of a host, exact over restarts."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

from smtpgate.core.limits import (
    Charge,
    Crossing,
    LimitExceededError,
    LimitStatus,
    Reservation,
    Usage,
    attempt,
    is_within_lease,
    limit_statuses,
    microseconds,
    must_have_room,
    settle,
)
from smtpgate.ledger.full import FullQuotas
from smtpgate.ledger.sqlite_file import LedgerFile
from smtpgate.ledger.sqlite_thread import Job, LedgerThread, Work
from smtpgate.ports import LedgerUnavailableError

# A commit of all recipients changes no count, so it may wait for the next transaction.
_CLOSED_WITHIN_S: Final = 0.1
# More than one a job, so that rows are deleted faster than they are made.
_SWEPT_A_JOB: Final = 2


class SqliteLedger:
    """Implements the Ledger port. The file is opened when it is first asked."""

    def __init__(self, path: Path, *, timeout_s: float = 5, lease_s: float = 900) -> None:
        """``timeout_s`` is how long an answer may take, with the wait for other processes."""
        self._path = path
        self._timeout_s = timeout_s
        self._lease = timedelta(seconds=lease_s)
        self._full = FullQuotas()
        # Unlike those of any other process that has open reservations.
        self._ids = count((int.from_bytes(os.urandom(4)) >> 1) << 32)
        self._now: datetime | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._thread = LedgerThread(path, busy_timeout_s=timeout_s, on_begin=self._sweep)

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        """Count the recipients beforehand; raises LimitExceededError when they are too many."""
        number, self._now = next(self._ids), now

        def work(file: LedgerFile) -> Reservation:
            usages = [file.usage(charge.subject) for charge in charges]
            tried = attempt(usages, charges, recipients, now)
            _keep(file, charges, usages, tried.usages)
            if tried.refusal is not None:
                raise tried.refusal
            reservation = Reservation(number, recipients, now, tried.counted, tried.may_cross)
            file.add_reservation(number, microseconds(now), reservation.account_id, recipients)
            return reservation

        def undo(reservation: Reservation) -> Work:
            return self._settlement(reservation, 0, now)

        try:
            reservation: Reservation = await self._do(work, undo=undo)
        except LimitExceededError as refusal:
            self._full.note_refused(refusal)
            raise
        self._full.note_passed(reservation)
        return reservation

    async def commit(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """Keep the recipients that the upstream accepted, or may have accepted."""
        if accepted == reservation.recipients and not reservation.may_cross:
            self._close_soon(reservation.id)
            return ()
        work = self._settlement(reservation, accepted, now)
        # A late settlement has no caller that reports thresholds; the next message does.
        owed = self._settlement(replace(reservation, may_cross=False), accepted, now)
        try:
            crossings: tuple[Crossing, ...] = await self._do(work, owed=owed)
        except LedgerUnavailableError:
            return ()
        return crossings

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

        def work(file: LedgerFile) -> tuple[LimitStatus, ...]:
            return limit_statuses(
                [file.usage(charge.subject) for charge in charges], charges, now
            )

        found: tuple[LimitStatus, ...] = await self._do(work, only_reads=True)
        return found

    async def probe(self) -> datetime | None:
        """Write to the file something that counts nothing."""
        await self._do(LedgerFile.touch)
        return None

    async def close(self) -> None:
        """Carry out the jobs that wait, and close the file."""
        if self._closing is not None:
            self._closing.cancel()
        await asyncio.to_thread(self._thread.stop, self._timeout_s)

    async def _do(
        self,
        work: Work,
        *,
        undo: Callable[[Any], Work] | None = None,
        owed: Work | None = None,
        only_reads: bool = False,
    ) -> Any:  # noqa: ANN401 - whatever the work returns
        """The result of the work in the next transaction. Raises LedgerUnavailableError."""
        if self._thread.is_closed:
            raise LedgerUnavailableError(f"{self._path}: closed")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._thread.put(Job(work, loop, future, undo, owed, only_reads))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await future
        except TimeoutError:
            problem = f"{self._path}: no answer within {self._timeout_s:g} s"
            raise LedgerUnavailableError(problem) from None

    def _settlement(self, reservation: Reservation, accepted: int, now: datetime) -> Work:
        """The work that settles; it does nothing if that was done, or the lease has ended."""

        def work(file: LedgerFile) -> tuple[Crossing, ...]:
            at_us = file.take_reservation(reservation.id)
            if at_us is None or not is_within_lease(at_us, now, self._lease):
                return ()
            charges = [entry.charge for entry in reservation.counted]
            usages = [file.usage(charge.subject) for charge in charges]
            settled = settle(usages, reservation, accepted, now)
            _keep(file, charges, usages, settled.usages)
            return settled.crossings

        return work

    def _close_soon(self, reservation_id: int) -> None:
        """Close it with the next transaction: no count changes, so the caller need not wait."""
        self._thread.owe(lambda file: file.close_reservation(reservation_id))
        if self._closing is None:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(_CLOSED_WITHIN_S, self._close_now)

    def _close_now(self) -> None:
        self._closing = None
        self._thread.nudge()

    def _sweep(self, file: LedgerFile, jobs: int) -> None:
        if jobs and self._now is not None:
            file.sweep(self._now, self._lease, _SWEPT_A_JOB * jobs)


def _keep(
    file: LedgerFile,
    charges: Sequence[Charge],
    before: Sequence[Usage | None],
    after: Sequence[Usage | None],
) -> None:
    """Write the usages that changed."""
    for charge, old, new in zip(charges, before, after, strict=True):
        if new is not None and new is not old:
            file.keep(charge, new)
