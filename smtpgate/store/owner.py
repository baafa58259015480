"""The owner of a host's store: it carries out requests of its own process, and of workers."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from smtpgate.core.limits import Reservation
from smtpgate.journal.events import EventRow
from smtpgate.journal.file import JournalFile
from smtpgate.journal.groups import not_in_time
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.statements import Entry
from smtpgate.journal.tasks import TaskRow
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
from smtpgate.store.requests import Begin, BeginAnswer, Finish, FinishAnswer, OfMessage
from smtpgate.store.work import Request, StoreWork

# For the journal's transaction, as for any other of it.
WRITTEN_WITHIN_S: Final = 10.0

Q = TypeVar("Q", Begin, Finish, OfMessage)
Asked: TypeAlias = tuple[Q, str | None]
"""A request as it is carried out now, and the problem of a journal without its entry."""
Result: TypeAlias = Begun | Finished | Exception
"""The value that a request returns, or the exception that it raises."""


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
    ``on_error`` with an error that nobody expects. ``on_tasks`` is called when tasks came into
    force.
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
        self.on_tasks: Callable[[], object] = lambda: None
        self.timeout_s = timeout_s + WRITTEN_WITHIN_S  # of any request
        self._on_ledger_problem = on_ledger_problem
        self._on_error = on_error
        self._open: set[str] = set()  # messages between begin and finish; also the thread's
        self._work = work
        work.not_written = journal.writer.not_written

    async def begin(self, request: Begin) -> Begun:
        """Count the recipients, and write the row.

        Raises LimitExceededError or LedgerUnavailableError; then nothing is counted or written.
        """
        request, problem = self._begin(request)
        if request.reserve is None and request.entry is None:
            self._leave(request.message_id)
            return Begun(None, problem)
        return self._begun(request, problem, await self._ask(request))

    async def note(self, tasks: tuple[TaskRow, ...], events: tuple[EventRow, ...]) -> None:
        """Write provisional events and tasks. Raises JournalUnavailableError."""
        await self.journal.write_noted(tasks, events)

    async def finish(self, request: Finish) -> Finished:
        """Settle the reservation, and write the verdict."""
        request, problem = self._admitted(request)
        return self._finished(request, problem, await self._ask(request))

    def carry_out(
        self, requests: Sequence[OfMessage], on_done: Callable[[list[Result]], None]
    ) -> None:
        """Do the same with several requests at once, without a task.

        ``on_done`` is called once, with what each would return or raise.
        """
        asked = [
            self._begin(one) if isinstance(one, Begin) else self._admitted(one)
            for one in requests
        ]
        try:
            future = self.thread.ask_all([request for request, _ in asked], self.timeout_s)
        except Closed as error:
            on_done(self._results(asked, [error] * len(asked)))
        else:
            future.add_done_callback(partial(self._take_answers, asked, on_done))

    def keep(self, entry: Entry) -> None:
        """Write the entry soon, without a caller that waits for it."""
        self.journal.writer.add(entry)

    @property
    def is_untroubled(self) -> bool:
        """True if requests need nothing of the event loop before they are carried out.

        Asked by the thread.
        """
        writer = self.journal.writer
        return writer.problem is None and not writer.owed

    def settled(self, answered: Iterable[tuple[OfMessage, Any]]) -> list[Result]:
        """The results of requests that the thread took, after which something is left to do."""
        results = []
        for request, answer in answered:
            try:
                self._work.answered(request, answer, is_abandoned=False)
            except Exception as error:  # noqa: BLE001 - the others get their answers
                self._on_error(error)
            results.append(self._result(request, None, answer))
        return results

    def enter(self, message_ids: Iterable[str]) -> None:
        """These messages are on their way."""
        self._open.update(message_ids)
        self.thread.load = len(self._open)

    def leave(self, message_ids: Iterable[str]) -> None:
        """These messages will not be finished, or are."""
        self._open.difference_update(message_ids)
        self.thread.load = len(self._open)

    def _leave(self, message_id: str) -> None:
        self._open.discard(message_id)
        self.thread.load = len(self._open)

    # -- requests ------------------------------------------------------------------------------

    def _begin(self, request: Begin) -> Asked[Begin]:
        self.enter((request.message_id,))
        return self._admitted(request)

    def _admitted(self, request: Q) -> Asked[Q]:
        """The request with its entry as it is to be written now, or the journal's problem."""
        entry, problem = request.entry, None
        if entry is None:
            return request, None
        try:
            entry = self.journal.writer.admit(entry)
        except JournalUnavailableError as error:
            entry, problem = None, str(error)
        if entry is not request.entry:
            request = request.with_entry(entry)
        return request, problem

    async def _ask(self, request: OfMessage) -> Any:  # noqa: ANN401 - any request's
        """The answer, or the error that takes its place."""
        try:
            future = self.thread.ask(request, self.timeout_s)
        except Closed as error:
            return error
        try:
            return await future
        except asyncio.CancelledError:
            self._leave(request.message_id)
            answer = lost_answer(future)
            if isinstance(answer, BeginAnswer):
                self.thread.abandon(request, answer)
            raise
        except Exception as error:  # noqa: BLE001 - it is the answer
            return error

    def _take_answers(
        self,
        asked: Sequence[Asked[OfMessage]],
        on_done: Callable[[list[Result]], None],
        future: "asyncio.Future[list[Any]]",
    ) -> None:
        error = future.exception()
        answers = future.result() if error is None else [error] * len(asked)
        on_done(self._results(asked, answers))

    def _results(
        self, asked: Sequence[Asked[OfMessage]], answers: Sequence[Any]
    ) -> list[Result]:
        return [
            self._result(request, problem, answer)
            for (request, problem), answer in zip(asked, answers, strict=True)
        ]

    def _result(self, request: OfMessage, problem: str | None, answer: Any) -> Result:  # noqa: ANN401 - any request's
        try:
            if isinstance(request, Begin):
                return self._begun(request, problem, answer)
            return self._finished(request, problem, answer)
        except Exception as error:  # noqa: BLE001 - for its caller
            return error

    # -- answers -------------------------------------------------------------------------------

    def _begun(
        self, request: Begin, problem: str | None, answer: BeginAnswer | Exception
    ) -> Begun:
        try:
            reservation, unwritten = self._counted(request, answer)
        except LedgerUnavailableError as error:
            self._leave(request.message_id)
            if request.reserve is None:  # there was nothing to count
                return Begun(None, str(error))
            self._on_ledger_problem(str(error))
            raise
        except BaseException:
            self._leave(request.message_id)
            raise
        if isinstance(unwritten, JournalUnavailableError):
            problem = str(unwritten)
        elif unwritten is not None:
            self._leave(request.message_id)
            if reservation is not None:
                self.give_back(reservation)
            raise unwritten
        if problem is not None and reservation is None:
            self._leave(request.message_id)  # perhaps nothing of it will be asked to finish
        return Begun(reservation, problem)

    def _counted(
        self, request: Begin, answer: BeginAnswer | Exception
    ) -> tuple[Reservation | None, Exception | None]:
        """The reservation, and why the row is not there; raises why nothing is counted."""
        if isinstance(answer, Exception):
            raise self._in_words(request, answer)
        if isinstance(answer.counted, Exception):
            raise answer.counted
        return answer.counted, answer.not_written

    def _finished(
        self, request: Finish, problem: str | None, answer: FinishAnswer | Exception
    ) -> Finished:
        self._leave(request.message_id)
        if isinstance(answer, Exception):
            error = self._in_words(request, answer)
            if isinstance(error, LedgerUnavailableError):
                return Finished(is_recorded=False)
            raise error
        if answer.not_counted is not None:
            self._note_not_settled(answer.not_counted)
        if answer.not_written is not None and not isinstance(
            answer.not_written, JournalUnavailableError
        ):
            self._on_error(answer.not_written)
        is_recorded = answer.not_written is None and problem is None
        if is_recorded and request.entry is not None and request.entry.tasks:
            self.on_tasks()
        return Finished(answer.crossings, is_recorded)

    def _in_words(self, request: OfMessage, error: Exception) -> Exception:
        """The error for the caller; without an answer the entry is not written, or owed."""
        name = self.journal.store.database.name
        if isinstance(error, Closed):
            problem = JournalUnavailableError(f"{name}: closed")
        elif isinstance(error, TimeoutError):
            problem = not_in_time(name, self.timeout_s)
        else:
            return error
        is_only_written = isinstance(request, Finish) or request.reserve is None
        if request.entry is not None and is_only_written:
            self.journal.writer.not_written(request.entry, problem)
        return LedgerUnavailableError(str(problem))

    def give_back(self, reservation: Reservation) -> None:
        """Give back all recipients of a message that goes no further, soon."""
        settle = Finish(Settle(reservation, 0, reservation.at))
        try:
            future = self.thread.ask(settle, self.timeout_s)
        except Closed:
            return  # they stay counted, as those of a gate that was killed
        future.add_done_callback(self._note_given_back)

    def _note_given_back(self, future: "asyncio.Future[FinishAnswer]") -> None:
        if future.cancelled() or isinstance(future.exception(), TimeoutError):
            return  # what a request settles is owed when it has no answer
        error = future.exception() or future.result().not_counted
        if isinstance(error, Exception):
            self._note_not_settled(error)

    def _note_not_settled(self, error: Exception) -> None:
        if isinstance(error, LedgerUnavailableError):
            self._on_ledger_problem(str(error))
        else:
            # The count stays as it was reserved, and the client gets the verdict all the same.
            self._on_error(error)
