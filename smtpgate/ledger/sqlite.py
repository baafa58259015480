"""A ledger in a SQLite file: shared by all processes of a host, exact over restarts."""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from smtpgate.core.limits import (
    Charge,
    Crossing,
    LimitExceededError,
    LimitStatus,
    Reservation,
    must_have_room,
)
from smtpgate.ledger.full import FullQuotas
from smtpgate.ledger.transactions import (
    LedgerTransactions,
    Look,
    Request,
    Reserve,
    Settle,
    Touch,
)
from smtpgate.ports import LedgerUnavailableError
from smtpgate.sql.thread import BatchThread, Closed, lost_answer

Ask = Callable[[Request, float], "asyncio.Future[Any]"]
"""Has a request carried out within so many seconds; raises Closed."""


class SqliteLedger:
    """Implements the Ledger port. The file is opened when it is first asked."""

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = 5,
        lease_s: float = 900,
        ask: Ask | None = None,
    ) -> None:
        """``timeout_s`` is how long an answer may take, with the wait for other processes.

        ``ask`` asks a thread that has the file with others; otherwise it has one of its own.
        """
        self.full = FullQuotas()
        self._path = path
        self._timeout_s = timeout_s
        # Unlike those of any other process that has open reservations.
        self._ids = count((int.from_bytes(os.urandom(4)) >> 1) << 32)
        self._thread: BatchThread[Request] | None = None
        if ask is None:
            work = LedgerTransactions(path, busy_timeout_s=timeout_s, lease_s=lease_s)
            self._thread = BatchThread(work, "smtpgate-ledger")
            ask = self._thread.ask
        self._ask = ask

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        """Count the recipients beforehand; raises LimitExceededError when they are too many."""
        try:
            reservation: Reservation = await self._do(self.request(charges, recipients, now))
        except LimitExceededError as refusal:
            self.full.note_refused(refusal)
            raise
        self.full.note_passed(reservation)
        return reservation

    def request(self, charges: Sequence[Charge], recipients: int, now: datetime) -> Reserve:
        """The request for a new reservation."""
        return Reserve(next(self._ids), tuple(charges), recipients, now)

    async def commit(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """Keep the recipients that the upstream accepted, or may have accepted."""
        try:
            crossings: tuple[Crossing, ...] = await self._do(Settle(reservation, accepted, now))
        except LedgerUnavailableError:
            return ()
        return crossings

    async def refund(self, reservation: Reservation, now: datetime) -> None:
        """Give all recipients back. A reservation that is settled stays as it is."""
        await self.commit(reservation, 0, now)

    @property
    def has_full_quotas(self) -> bool:
        """False if no 24-hour quota was full when last seen."""
        return bool(len(self.full))

    async def check(self, charges: Sequence[Charge], now: datetime) -> None:
        """Raise LimitExceededError when a 24-hour quota has no room for even one recipient."""
        if not self.full.has_any(charges):
            return
        must_have_room(await self.limit_statuses(charges, now))
        self.full.forget(charges)

    async def limit_statuses(
        self, charges: Sequence[Charge], now: datetime
    ) -> tuple[LimitStatus, ...]:
        """The status of each charge; nothing is counted."""
        found: tuple[LimitStatus, ...] = await self._do(Look(tuple(charges), now))
        return found

    async def probe(self) -> datetime | None:
        """Write to the file something that counts nothing."""
        await self._do(Touch())
        return None

    async def close(self) -> None:
        """Carry out the requests that wait, and close the file, unless others use it too."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.stop, self._timeout_s)

    async def _do(self, request: Request) -> Any:  # noqa: ANN401 - whatever it is answered
        """The answer to the request. Raises LedgerUnavailableError."""
        try:
            future = self._ask(request, self._timeout_s)
            try:
                return await future
            except asyncio.CancelledError:
                answer = lost_answer(future)
                if self._thread is not None and isinstance(answer, Reservation):
                    self._thread.abandon(request, answer)
                raise
        except Closed:
            raise LedgerUnavailableError(f"{self._path}: closed") from None
        except TimeoutError:
            problem = f"{self._path}: no answer within {self._timeout_s:g} s"
            raise LedgerUnavailableError(problem) from None
