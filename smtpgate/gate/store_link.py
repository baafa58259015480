"""The store of the parent, as a worker has it.

Requests of messages go over the line, others over the channel, and answers come back. Rows are
made here, so that their making is the worker's time and not the parent's.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, ClassVar, Final

from msgspec import Struct

from smtpgate.config import Config
from smtpgate.core.events import Event
from smtpgate.core.limits import LimitExceededError, Reservation
from smtpgate.gate.frames import (
    AskBegin,
    AskComplete,
    AskFinish,
    AskLook,
    AskNote,
    BeginDone,
    BeginRefused,
    FinishDone,
    JournalKey,
    Keep,
    LookDone,
    NotBegun,
    NotDone,
    NoteDone,
    OnLine,
    StoreAnswer,
    StoreRequest,
)
from smtpgate.gate.store_line import StoreLine
from smtpgate.http import Readiness
from smtpgate.journal.entries import RECORDED, Entries
from smtpgate.journal.events import EventRow
from smtpgate.journal.tasks import TaskRow
from smtpgate.journal.terms import TermKey
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ledger.transactions import Look, Reserve, Settle
from smtpgate.ledger.transactions import Request as LedgerRequest
from smtpgate.metrics.scraped import Scrape
from smtpgate.ports import (
    Begun,
    Clock,
    Finished,
    JournalUnavailableError,
    LedgerUnavailableError,
    Reading,
)
from smtpgate.sql.thread import Closed, lost_answer
from smtpgate.store.host import HostStore
from smtpgate.store.owner import WRITTEN_WITHIN_S
from smtpgate.store.requests import Begin, Completion, Finish

# The parent answers before, in every case in which it runs.
_BESIDE_STORE_S: Final = 2.0
_MAX_LATE: Final = 10_000


class _Waiting(Struct, frozen=True, gc=False):
    """A caller that waits for an answer, with its request if that is of a message.

    Its future leads back to it, through the caller's task, until the answer or the timeout.
    """

    future: asyncio.Future[Any]
    until_s: float
    request: Begin | Finish | None


class StoreLink:
    """Implements the Owner of a store that is in the parent."""

    def __init__(
        self,
        timeout_s: float,
        send: Callable[[OnLine], None],
        send_over_channel: Callable[[StoreRequest], None],
    ) -> None:
        self._timeout_s = timeout_s + WRITTEN_WITHIN_S + _BESIDE_STORE_S
        self._send = send
        self._send_over_channel = send_over_channel
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._waiting: dict[int, _Waiting] = {}
        self._late: OrderedDict[int, Reserve] = OrderedDict()  # without an answer in time
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self, request: Begin) -> Begun:
        """Count the recipients, and write the row.

        Raises LimitExceededError or LedgerUnavailableError; then nothing is counted or written.
        """
        number = next(self._numbers)
        future = self._answer_of(number, request)
        self._send(AskBegin(number, request))
        try:
            begun: Begun = await future
        except asyncio.CancelledError:
            lost: Begun | None = lost_answer(future)
            if lost is not None:
                self._give_back(lost.reservation)
            raise
        except LedgerUnavailableError as error:
            if request.reserve is not None:
                raise
            return Begun(None, str(error))  # there was nothing to count
        return begun

    async def note(self, tasks: tuple[TaskRow, ...], events: tuple[EventRow, ...]) -> None:
        """Write provisional events and tasks. Raises JournalUnavailableError."""
        number = next(self._numbers)
        future = self._answer_of(number)
        self._send_over_channel(AskNote(number, tasks, events))
        try:
            problem: str | None = await future
        except LedgerUnavailableError as error:
            problem = str(error)
        if problem is not None:
            raise JournalUnavailableError(problem)

    async def finish(self, request: Finish) -> Finished:
        """Settle the reservation, and write the verdict."""
        number = next(self._numbers)
        future = self._answer_of(number, request)
        self._send(_in_short(number, request))
        try:
            finished: Finished = await future
        except LedgerUnavailableError:
            return Finished(is_recorded=False)
        return finished

    def look(self, request: LedgerRequest, timeout_s: float) -> "asyncio.Future[Any]":
        """Read what the ledger has. Raises Closed for any other request."""
        if not isinstance(request, Look):
            raise Closed
        number = next(self._numbers)
        future = self._answer_of(number, timeout_s=timeout_s)
        self._send_over_channel(AskLook(number, request))
        return future

    def _answer_of(
        self,
        number: int,
        request: Begin | Finish | None = None,
        *,
        timeout_s: float | None = None,
    ) -> "asyncio.Future[Any]":
        """The answer to the request of that number, which the caller sends next."""
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        until_s = loop.time() + (timeout_s or self._timeout_s)
        self._waiting[number] = _Waiting(future, until_s, request)
        if self._timer is None or until_s < self._timer.when():
            self._watch(until_s)
        return future

    def _watch(self, until_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(until_s, self._give_up)

    def _give_up(self) -> None:
        """End the waits that took too long; one timer is enough for all of them."""
        self._timer = None
        now_s = self._loop.time()
        late = [number for number, one in self._waiting.items() if one.until_s <= now_s]
        for number in late:
            waiting = self._waiting.pop(number)
            self._note_late(number, _reserve_of(waiting.request))
            future = waiting.future
            if not future.done():
                problem = f"the store gave no answer within {self._timeout_s:g} s"
                future.set_exception(LedgerUnavailableError(problem))
        if self._waiting:
            self._watch(min(one.until_s for one in self._waiting.values()))

    def _note_late(self, number: int, reserve: Reserve | None) -> None:
        """Remember what is counted by a request whose answer is late, to give it back then."""
        if reserve is not None:
            self._late[number] = reserve
            if len(self._late) > _MAX_LATE:
                _ = self._late.popitem(last=False)

    def take(self, answer: StoreAnswer) -> None:
        """Hand an answer to its caller."""
        waiting = self._waiting.pop(answer.number, None)
        if waiting is None or (future := waiting.future).done():
            late = self._late.pop(answer.number, None)
            if isinstance(answer, BeginDone):
                reserve = late if waiting is None else _reserve_of(waiting.request)
                self._give_back(_counted(reserve, answer))
            return
        match answer:
            case BeginDone():
                reservation = _counted(_reserve_of(waiting.request), answer)
                future.set_result(Begun(reservation, answer.problem))
            case FinishDone():
                future.set_result(Finished(answer.crossings, answer.is_recorded))
            case LookDone():
                future.set_result(answer.statuses)
            case NoteDone():
                future.set_result(answer.problem)
            case NotBegun(number) if isinstance(waiting.request, Finish):
                self._waiting[number] = waiting
                self._send(AskFinish(number, waiting.request))
            case BeginRefused() | NotDone():
                future.set_exception(_error_of(answer))

    def _give_back(self, reservation: Reservation | None) -> None:
        """Give recipients back whose message is not waiting any more."""
        if reservation is not None:
            settle = Finish(Settle(reservation, 0, reservation.at))
            self._send(AskFinish(next(self._numbers), settle))


def _in_short(number: int, request: Finish) -> OnLine:
    """The request, without what the parent has since it began the message."""
    entry = request.entry
    if entry is None or not entry.is_begun:
        return AskFinish(number, request)
    return AskComplete(number, Completion.of(request, entry))


def _reserve_of(request: Begin | Finish | None) -> Reserve | None:
    return request.reserve if isinstance(request, Begin) else None


def _counted(reserve: Reserve | None, answer: BeginDone) -> Reservation | None:
    """The reservation of a message, of which only the counts are sent."""
    if reserve is None or not answer.counted:
        return None
    return reserve.counted(answer.counted, may_cross=answer.may_cross)


def _error_of(answer: BeginRefused | NotDone) -> Exception:
    if isinstance(answer, NotDone):
        kind = RuntimeError if answer.is_defect else LedgerUnavailableError
        return kind(answer.problem)
    return LimitExceededError(
        answer.charge,
        answer.limit,
        recipients=answer.recipients,
        left=answer.left,
        retry_after=answer.retry_after,
    )


class LinkedJournal:
    """Records refused logins and MAIL commands in the parent's journal, as an EventSink."""

    reads: ClassVar[tuple[type, ...]] = RECORDED
    entries: Entries

    def __init__(self, send: Callable[[StoreRequest], None]) -> None:
        self._send = send

    def publish(self, event: Event) -> None:
        """Record a login or a MAIL command that was refused."""
        entry = self.entries.of_event(event)
        if entry is not None:
            self._send(Keep(entry))


class LinkedStores:
    """The stores of a worker whose parent owns the files."""

    def __init__(
        self,
        config: Config,
        workers: int,
        clock: Clock,
        send: Callable[[StoreRequest], None],
        line: StoreLine,
    ) -> None:
        """``send`` sends over the channel."""
        self._config = config
        self._workers = workers
        self._clock = clock
        self._left_out = 0
        self._has_key = asyncio.Event()
        self._line = line
        self.link = StoreLink(config.ledger.timeout_s, line.send, send)
        line.answers.take = self.link.take
        self.journal = LinkedJournal(send)
        self.ledger_watch = SqliteLedger(
            config.ledger_path, timeout_s=config.ledger.timeout_s, ask=self.link.look
        )
        self.of_messages = HostStore(self.link, self.ledger_watch, self.journal)

    def take_key(self, key: JournalKey) -> None:
        """Make entries with that key."""
        self.journal.entries = Entries(
            self._config.journal,
            TermKey(key.key),
            key.writer,
            clock=self._clock,
            on_left_out=self._note_left_out,
            workers=self._workers,
        )
        self._has_key.set()

    def _note_left_out(self) -> None:
        self._left_out += 1

    def show(self, metrics: Scrape, _readiness: Readiness) -> None:
        """Show what only the worker knows; the rest is the parent's."""
        metrics.watch(self._readings)

    def _readings(self) -> Iterator[Reading]:
        yield Reading("smtpgate_journal_left_out_total", self._left_out)

    async def start(self) -> None:
        """Wait for the parent's key."""
        await self._has_key.wait()

    async def stop(self) -> None:
        """End the line; the parent closes the files."""
        self._line.close()
