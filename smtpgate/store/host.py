"""One store a host: ledger and journal in SQLite files of one thread, one request for both."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from smtpgate.core.events import SubmissionDone
from smtpgate.core.limits import Charge, LimitExceededError, Reservation
from smtpgate.journal.file import JournalFile
from smtpgate.journal.groups import not_in_time
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.statements import Entry
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ledger.transactions import LedgerTransactions, Settle
from smtpgate.ports import (
    Begun,
    Clock,
    Finished,
    JournalUnavailableError,
    LedgerUnavailableError,
)
from smtpgate.sql.database import Database
from smtpgate.sql.thread import BatchThread, Closed
from smtpgate.store.requests import Begin, BeginAnswer, Finish, FinishAnswer
from smtpgate.store.work import Request, StoreWork

# For the journal's transaction, as for any other of it.
_WRITTEN_WITHIN_S: Final = 10.0


def new_thread(
    ledger_path: Path, journal: Database, *, timeout_s: float, lease_s: float, clock: Clock
) -> tuple[BatchThread[Request], StoreWork]:
    """The thread that has both files, and its work; nothing is opened yet.

    ``timeout_s`` is how long the ledger waits for other processes.
    """
    ledger = LedgerTransactions(ledger_path, busy_timeout_s=timeout_s, lease_s=lease_s)
    work = StoreWork(ledger, JournalFile(journal, clock))
    return BatchThread(work, "smtpgate-store"), work


class HostStore:
    """Implements the Store port over the thread of a ledger and a journal.

    ``on_ledger_problem`` is called with the problem when the ledger cannot count, and
    ``on_error`` with an error that nobody expects.
    """

    def __init__(
        self,
        thread: BatchThread[Request],
        work: StoreWork,
        ledger: SqliteLedger,
        journal: LiveJournal,
        *,
        timeout_s: float,
        on_ledger_problem: Callable[[str], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._thread = thread
        self._ledger = ledger
        self._journal = journal
        self._timeout_s = timeout_s + _WRITTEN_WITHIN_S
        self._on_ledger_problem = on_ledger_problem
        self._on_error = on_error
        self._open: set[str] = set()  # messages between begin and finish
        work.not_written = journal.writer.not_written

    async def begin(
        self, done: SubmissionDone, charges: Sequence[Charge], now: datetime
    ) -> Begun:
        """Count the recipients, and keep what is known of the submission."""
        reserve = None
        if charges:
            recipients = len(done.submission.envelope.recipients)
            reserve = self._ledger.request(charges, recipients, now)
        entry, problem = self._admitted(self._journal.entries.beginning(done))
        if reserve is None and entry is None:
            return Begun(None, problem)
        self._enter(done)
        try:
            answer: BeginAnswer = await self._ask(Begin(reserve, entry))
            reservation = self._counted(answer)
        except LedgerUnavailableError as error:
            self._leave(done)
            self._on_ledger_problem(str(error))
            raise
        except BaseException:
            self._leave(done)
            raise
        unwritten = answer.not_written
        if unwritten is None:
            if entry is not None:
                self._journal.entries.begun(entry)
        elif isinstance(unwritten, JournalUnavailableError):
            problem = str(unwritten)
        else:
            if reservation is not None:
                await self._settle(reservation, now)
            self._leave(done)
            raise unwritten
        return Begun(reservation, problem)

    async def finish(
        self, done: SubmissionDone, reservation: Reservation | None, now: datetime
    ) -> Finished:
        """Settle the reservation, and keep the verdict."""
        settle = None if reservation is None else Settle(reservation, done.counted, now)
        entry, problem = self._admitted(self._journal.entries.ending(done))
        if settle is None and entry is None:
            self._leave(done)
            return Finished(is_recorded=problem is None)
        self._enter(done)
        try:
            answer: FinishAnswer = await self._ask(Finish(settle, entry), entry)
        except LedgerUnavailableError:
            return Finished(is_recorded=False)
        finally:
            self._leave(done)
        if answer.not_counted is not None:
            self._note_not_settled(answer.not_counted)
        if answer.not_written is not None and not isinstance(
            answer.not_written, JournalUnavailableError
        ):
            self._on_error(answer.not_written)
        is_recorded = answer.not_written is None and problem is None
        return Finished(answer.crossings, is_recorded)

    # -- requests ------------------------------------------------------------------------------

    def _admitted(self, entry: Entry | None) -> tuple[Entry | None, str | None]:
        """The entry as it is to be written now, or the problem of the journal."""
        if entry is None:
            return None, None
        try:
            return self._journal.writer.admit(entry), None
        except JournalUnavailableError as error:
            return None, str(error)

    async def _ask(self, request: Request, final: Entry | None = None) -> Any:  # noqa: ANN401 - any request's
        """The answer. Raises LedgerUnavailableError; the verdict is owed then."""
        name = self._journal.store.database.name
        try:
            return await self._thread.ask(request, self._timeout_s)
        except Closed:
            problem = _closed(name)
        except TimeoutError:
            problem = not_in_time(name, self._timeout_s)
        if final is not None:
            self._journal.writer.not_written(final, problem)
        raise LedgerUnavailableError(str(problem)) from None

    def _counted(self, answer: BeginAnswer) -> Reservation | None:
        counted = answer.counted
        if isinstance(counted, Exception):
            if isinstance(counted, LimitExceededError):
                self._ledger.full.note_refused(counted)
            raise counted
        if counted is not None:
            self._ledger.full.note_passed(counted)
        return counted

    async def _settle(self, reservation: Reservation, now: datetime) -> None:
        """Give back all recipients of a message that goes no further."""
        answer: FinishAnswer = await self._ask(Finish(Settle(reservation, 0, now)))
        if answer.not_counted is not None:
            self._note_not_settled(answer.not_counted)

    def _note_not_settled(self, error: Exception) -> None:
        if isinstance(error, LedgerUnavailableError):
            self._on_ledger_problem(str(error))
        else:
            # The count stays as it was reserved, and the client gets the verdict all the same.
            self._on_error(error)

    # -- load ----------------------------------------------------------------------------------

    def _enter(self, done: SubmissionDone) -> None:
        self._open.add(done.submission.message_id)
        self._thread.load = len(self._open)

    def _leave(self, done: SubmissionDone) -> None:
        self._open.discard(done.submission.message_id)
        self._thread.load = len(self._open)


def _closed(name: str) -> JournalUnavailableError:
    """The error of a request to a store that is closed."""
    return JournalUnavailableError(f"{name}: closed")
