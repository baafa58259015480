"""Requests to the ledger's SQLite file, carried out together in one transaction.

Requests and answers are plain values, so that they can come from another process.

An error of the file ends the transaction with LedgerUnavailableError, and the next one opens
the file again. So a file that is full, locked, damaged or gone is in use again as soon as it
can be. What cannot be settled is owed until then. After an error nothing waits for a lock for
longer than a moment: each request would wait as long as the one before it.
"""

import sqlite3
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import Struct

from smtpgate.core.limits import (
    Charge,
    Counted,
    Crossing,
    LimitStatus,
    Reservation,
    attempt,
    is_within_lease,
    limit_statuses,
    settle,
)
from smtpgate.ledger.sqlite_file import LedgerFile, LedgerFileError, RowChangedError
from smtpgate.ports import LedgerUnavailableError
from smtpgate.sql.thread import IsAbandoned, PromisesNothing

_MAX_OWED: Final = 100_000
_MAX_OWED_AT_ONCE: Final = 1024
_RETRY_S: Final = 0.5
# A commit of all recipients changes no count, so it may wait: for others, for an idle moment,
# or for a request that could settle it again.
_CLOSED_WITHIN_S: Final = 0.1
_CLOSED_TOGETHER: Final = 64
# More than one a request, so that rows are deleted faster than they are made. They are looked
# at after so many requests: the four statements cost more than the rows.
_SWEPT_A_REQUEST: Final = 2
_SWEPT_AFTER: Final = 64
_BUSY_IN_TROUBLE_S: Final = 0.05


class Reserve(Struct, frozen=True, gc=False, array_like=True):
    """Count the recipients beforehand; the answer is a Reservation of that number."""

    number: int
    charges: tuple[Charge, ...]
    recipients: int
    at: datetime

    def counted(self, counted: tuple[Counted, ...], *, may_cross: bool) -> Reservation:
        """The reservation of what was counted."""
        return Reservation(
            self.number, self.recipients, self.at, self.charges, counted, may_cross
        )


class Settle(Struct, frozen=True, gc=False, array_like=True):
    """Keep the accepted recipients, and give the others back; the answer is its crossings."""

    reservation: Reservation
    accepted: int
    at: datetime

    @property
    def only_closes(self) -> bool:
        """True if it changes no count."""
        reservation = self.reservation
        return self.accepted == reservation.recipients and not reservation.may_cross

    @property
    def silent(self) -> "Settle":
        """The same for no caller that could report thresholds."""
        return Settle(self.reservation.silent, self.accepted, self.at)


class Look(Struct, frozen=True, gc=False, array_like=True):
    """Read the status of each charge; the answer is a tuple of LimitStatus."""

    charges: tuple[Charge, ...]
    at: datetime


class Touch(Struct, frozen=True, gc=False):
    """Write something that counts nothing; the answer is ``None``."""


Request = Reserve | Settle | Look | Touch
Answer = Any
"""The answer that the request names, or the exception for its caller."""


class _Batch(NamedTuple):
    """All that one transaction carries out; ``answers`` get those of the requests, by place.

    The traceback of an error among them leads back to it.
    """

    requests: list[tuple[int, Request]]
    answers: list[Answer]
    is_abandoned: IsAbandoned
    owed: list[Settle]
    closing: list[int]
    only_reads: bool


class LedgerTransactions(PromisesNothing):
    """Owns the file; for one thread, except ``owe``."""

    def __init__(self, path: Path, *, busy_timeout_s: float, lease_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._lease = timedelta(seconds=lease_s)
        self._file: LedgerFile | None = None
        self._is_in_trouble = False
        self._owed: deque[Settle] = deque(maxlen=_MAX_OWED)
        self._closing: deque[int] = deque(maxlen=_MAX_OWED)
        self._now: datetime | None = None
        self._unswept = 0  # requests since rows were last looked at

    # -- the work of a thread ------------------------------------------------------------------

    @property
    def wait_s(self) -> float | None:
        """The time after which it is to be run again for owed work."""
        if self._owed:
            return _RETRY_S
        return _CLOSED_WITHIN_S if self._closing else None

    def answered(self, request: Request, answer: Answer, *, is_abandoned: bool) -> None:
        """Give recipients back whose reservation has no owner."""
        if is_abandoned and isinstance(request, Reserve) and isinstance(answer, Reservation):
            self.owe(Settle(answer, 0, request.at))

    def tidy(self) -> None:
        """There is nothing that no caller waits for, beside what is owed."""

    def owe(self, settlement: Settle) -> None:
        """Settle it with the next transaction; if too much is owed, the oldest is lost."""
        self._owed.append(settlement)

    def close(self) -> None:
        """Close the file, after one attempt at all that is owed."""
        while self._owed or self._closing:
            left = len(self._owed) + len(self._closing)
            self.run((), _never)
            if len(self._owed) + len(self._closing) >= left:
                break
        self._disconnect()

    def run(
        self, requests: Sequence[Request | None], is_abandoned: IsAbandoned
    ) -> list[Answer]:
        """Carry the requests out, and what is owed; ``None`` asks for nothing.

        Of those whose caller gave up only settlements are carried out.
        """
        answers: list[Answer] = [None] * len(requests)
        rest: list[tuple[int, Request]] = []
        kinds: set[type] = set()
        for at, request in enumerate(requests):
            if type(request) is Settle and request.only_closes:
                self._closing.append(request.reservation.id)
                answers[at] = ()
            elif request is not None:
                rest.append((at, request))
                kinds.add(type(request))
        if requests and not rest:
            return answers
        owed = _taken(self._owed, _MAX_OWED_AT_ONCE)
        may_wait = not owed and kinds == {Reserve}
        closing: list[int] = []
        if not may_wait or len(self._closing) >= _CLOSED_TOGETHER:
            closing = _taken(self._closing, _MAX_OWED_AT_ONCE)
        if rest or owed or closing:
            only_reads = kinds == {Look} and not (owed or closing)
            try:
                self._transact(_Batch(rest, answers, is_abandoned, owed, closing, only_reads))
            except Exception as error:  # noqa: BLE001 - for the callers; the thread goes on
                self._fail(error, rest, answers)
                self._owed.extendleft(reversed(owed))
                self._closing.extendleft(reversed(closing))
        return answers

    # -- in a transaction ----------------------------------------------------------------------

    def _transact(self, batch: _Batch) -> None:
        file = self._opened()
        if batch.only_reads:
            file.begin_to_read()
        else:
            file.begin()
            self._sweep(file, len(batch.requests))
        self._carry_out(batch, file)
        try:
            file.commit()
        except RowChangedError:
            file.begin_again()
            self._carry_out(batch, file)
            file.commit()
        if self._is_in_trouble:
            self._is_in_trouble = False
            file.set_busy_timeout(self._busy_timeout_s)

    def _carry_out(self, batch: _Batch, file: LedgerFile) -> None:
        if batch.closing:
            file.close_reservations(batch.closing)
        for settlement in batch.owed:
            _ = self._answer(file, settlement)
        for at, request in batch.requests:
            if not batch.is_abandoned(at):
                batch.answers[at] = self._answer(file, request)
            elif isinstance(request, Settle):
                _ = self._answer(file, request.silent)

    def _sweep(self, file: LedgerFile, requests: int) -> None:
        self._unswept += requests
        if self._unswept >= _SWEPT_AFTER and self._now is not None:
            file.sweep(self._now, self._lease, _SWEPT_A_REQUEST * self._unswept)
            self._unswept = 0

    def _fail(
        self, error: Exception, requests: list[tuple[int, Request]], answers: list[Answer]
    ) -> None:
        self._disconnect()
        self._is_in_trouble = True
        if isinstance(error, sqlite3.Error | LedgerFileError | OSError):
            error = LedgerUnavailableError(f"{self._path}: {error}")
        for at, request in requests:
            answers[at] = error
            if isinstance(request, Settle):
                self._owed.append(request.silent)

    def _answer(self, file: LedgerFile, request: Request) -> Answer:
        """The answer, or an exception for its caller; an error of the file is everybody's."""
        try:
            if type(request) is Reserve:
                return self._reserve(file, request)
            if type(request) is Settle:
                return self._settle(file, request)
            return _look(file, request) if type(request) is Look else file.touch()
        except (sqlite3.Error, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - for its caller
            return error

    def _reserve(self, file: LedgerFile, request: Reserve) -> Answer:
        charges, recipients, now = request.charges, request.recipients, request.at
        self._now = now
        rows, usages = file.rows(charges)
        tried = attempt(usages, charges, recipients, now)
        file.keep(rows, charges, tried.usages)
        if tried.refusal is not None:
            return tried.refusal
        account_id = charges[0].subject.account_id
        file.add_reservation(request.number, tried.at_us, account_id, recipients)
        return request.counted(tried.counted, may_cross=tried.may_cross)

    def _settle(self, file: LedgerFile, request: Settle) -> tuple[Crossing, ...]:
        """Settle it; nothing is done if that was done, or the lease has ended."""
        reservation, now = request.reservation, request.at
        at_us = file.take_reservation(reservation.id)
        if at_us is None or not is_within_lease(at_us, now, self._lease):
            return ()
        charges = reservation.charges
        rows, usages = file.rows(charges)
        settled = settle(usages, reservation, request.accepted, now)
        file.keep(rows, charges, settled.usages)
        return settled.crossings

    # -- the file ------------------------------------------------------------------------------

    def _opened(self) -> LedgerFile:
        if self._file is not None and not self._file.is_current:
            self._disconnect()
        if self._file is None:
            busy_s = _BUSY_IN_TROUBLE_S if self._is_in_trouble else self._busy_timeout_s
            busy_s = min(busy_s, self._busy_timeout_s)
            self._file = LedgerFile(self._path, busy_timeout_s=busy_s)
        return self._file

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except sqlite3.Error:
                return  # it is not used any more in any case


def _never(_: int) -> bool:
    return False


def _look(file: LedgerFile, request: Look) -> tuple[LimitStatus, ...]:
    _, usages = file.rows(request.charges)
    return limit_statuses(usages, request.charges, request.at)


def _taken(queue: deque[Any], most: int) -> list[Any]:
    """The oldest; another thread may add to the queue meanwhile."""
    return [queue.popleft() for _ in range(min(len(queue), most))]
