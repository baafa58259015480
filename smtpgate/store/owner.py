"""The owner of a host's store: it carries out requests of its own process, and of workers."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from smtpgate.core.limits import Reservation
from smtpgate.journal.file import JournalFile
from smtpgate.journal.groups import not_in_time
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.statements import Entry
from smtpgate.ledger.transactions import LedgerTransactions, Settle
from smtpgate.ports import (
    Begun,
    Clock,
    Finished,
    JournalUnavailableError,
    LedgerUnavailableError,
)
from smtpgate.sql.database import Database
from smtpgate.sql.thread import BatchThread, Closed, lost_answer
from smtpgate.store.requests import Begin, BeginAnswer, Finish, FinishAnswer
from smtpgate.store.work import Request, StoreWork

# For the journal's transaction, as for any other of it.
WRITTEN_WITHIN_S: Final = 10.0


def new_thread(
    ledger_path: Path, journal: Database, *, timeout_s: float, lease_s: float, clock: Clock
) -> tuple[BatchThread[Request], StoreWork]:
    """The thread that has both files, and its work; nothing is opened yet.

    ``timeout_s`` is how long the ledger waits for other processes.
    """
    ledger = LedgerTransactions(ledger_path, busy_timeout_s=timeout_s, lease_s=lease_s)
    work = StoreWork(ledger, JournalFile(journal, clock))
    return BatchThread(work, "smtpgate-store"), work


class StoreOwner:
    """Carries out requests in the thread of a ledger and a journal.

    ``on_ledger_problem`` is called with the problem when the ledger cannot count, and
    ``on_error`` with an error that nobody expects.
    """

    def __init__(
        self,
        thread: BatchThread[Request],
        work: StoreWork,
        journal: LiveJournal,
        *,
        timeout_s: float,
        on_ledger_problem: Callable[[str], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.thread = thread
        self.journal = journal
        self.timeout_s = timeout_s + WRITTEN_WITHIN_S  # of any request
        self._on_ledger_problem = on_ledger_problem
        self._on_error = on_error
        self._open: set[str] = set()  # messages between begin and finish
        work.not_written = journal.writer.not_written

    async def begin(self, request: Begin) -> Begun:
        """Count the recipients, and write the row.

        Raises LimitExceededError or LedgerUnavailableError; then nothing is counted or written.
        """
        entry, problem = self._admitted(request.entry)
        if request.reserve is None and entry is None:
            return Begun(None, problem)
        self._enter(request.message_id)
        try:
            of_journal = entry if request.reserve is None else None
            answer: BeginAnswer = await self._ask(replace(request, entry=entry), of_journal)
            reservation = _counted(answer)
        except LedgerUnavailableError as error:
            self.leave((request.message_id,))
            if request.reserve is None:  # there was nothing to count
                return Begun(None, str(error))
            self._on_ledger_problem(str(error))
            raise
        except BaseException:
            self.leave((request.message_id,))
            raise
        unwritten = answer.not_written
        if isinstance(unwritten, JournalUnavailableError):
            problem = str(unwritten)
            if reservation is None:  # perhaps nothing of it will be asked to finish
                self.leave((request.message_id,))
        elif unwritten is not None:
            if reservation is not None:
                await self._settle(Settle(reservation, 0, reservation.at))
            self.leave((request.message_id,))
            raise unwritten
        return Begun(reservation, problem)

    async def finish(self, request: Finish) -> Finished:
        """Settle the reservation, and write the verdict."""
        entry, problem = self._admitted(request.entry)
        self._enter(request.message_id)
        try:
            answer: FinishAnswer = await self._ask(replace(request, entry=entry), entry)
        except LedgerUnavailableError:
            return Finished(is_recorded=False)
        finally:
            self.leave((request.message_id,))
        if answer.not_counted is not None:
            self._note_not_settled(answer.not_counted)
        if answer.not_written is not None and not isinstance(
            answer.not_written, JournalUnavailableError
        ):
            self._on_error(answer.not_written)
        is_recorded = answer.not_written is None and problem is None
        return Finished(answer.crossings, is_recorded)

    def keep(self, entry: Entry) -> None:
        """Write the entry soon, without a caller that waits for it."""
        self.journal.writer.add(entry)

    def leave(self, message_ids: Iterable[str]) -> None:
        """These messages will not be finished, or are."""
        self._open.difference_update(message_ids)
        self.thread.load = len(self._open)

    def _enter(self, message_id: str) -> None:
        self._open.add(message_id)
        self.thread.load = len(self._open)

    # -- requests ------------------------------------------------------------------------------

    def _admitted(self, entry: Entry | None) -> tuple[Entry | None, str | None]:
        """The entry as it is to be written now, or the problem of the journal."""
        if entry is None:
            return None, None
        try:
            return self.journal.writer.admit(entry), None
        except JournalUnavailableError as error:
            return None, str(error)

    async def _ask(self, request: Request, entry: Entry | None = None) -> Any:  # noqa: ANN401 - any request's
        """The answer. Raises LedgerUnavailableError; then the entry is not written, or owed."""
        name = self.journal.store.database.name
        try:
            future = self.thread.ask(request, self.timeout_s)
            try:
                return await future
            except asyncio.CancelledError:
                answer = lost_answer(future)
                if isinstance(answer, BeginAnswer):
                    self.thread.abandon(request, answer)
                raise
        except Closed:
            problem = JournalUnavailableError(f"{name}: closed")
        except TimeoutError:
            problem = not_in_time(name, self.timeout_s)
        if entry is not None:
            self.journal.writer.not_written(entry, problem)
        raise LedgerUnavailableError(str(problem)) from None

    async def _settle(self, settle: Settle) -> None:
        """Give back all recipients of a message that goes no further."""
        answer: FinishAnswer = await self._ask(Finish(settle))
        if answer.not_counted is not None:
            self._note_not_settled(answer.not_counted)

    def _note_not_settled(self, error: Exception) -> None:
        if isinstance(error, LedgerUnavailableError):
            self._on_ledger_problem(str(error))
        else:
            # The count stays as it was reserved, and the client gets the verdict all the same.
            self._on_error(error)


def _counted(answer: BeginAnswer) -> Reservation | None:
    if isinstance(answer.counted, Exception):
        raise answer.counted
    return answer.counted
