"""The requests of one worker to the store that the parent owns, and what it leaves behind.

This is the part in the event loop. Requests of messages come over the worker's line, and reach
it only where there is trouble (:mod:`smtpgate.gate.store_inlet`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from smtpgate.core.limits import Reservation
from smtpgate.gate.frames import (
    AskFinish,
    AskLook,
    AskNote,
    JournalKey,
    Keep,
    LookDone,
    NoteDone,
    OfMessage,
    OnLine,
    StoreAnswer,
    StoreRequest,
)
from smtpgate.gate.store_answers import answer_of, encodable, failure
from smtpgate.gate.store_begun import BegunMessages
from smtpgate.gate.store_inlet import Answered, StoreInlet
from smtpgate.ports import Begun, JournalUnavailableError, Ledger
from smtpgate.store.owner import Result, StoreOwner
from smtpgate.tasks import TaskOwner
from smtpgate.workers.line import PacketLine

# Beyond the time that a request may take.
_PATIENCE_S: Final = 5.0


class StoreDesk:
    """Carries out the requests of one worker.

    Those that came together are one request to the store, and need no task.
    """

    def __init__(
        self,
        owner: StoreOwner,
        send: Callable[[StoreAnswer], None],
        ledger: Ledger,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.begun = BegunMessages()
        self._owner = owner
        self._send = send
        self._ledger = ledger
        self._on_error = on_error
        self._asked = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._has_no_line = asyncio.Event()
        self._has_no_line.set()
        self._is_closed = False
        self._tasks = TaskOwner()

    def serve(self, line: PacketLine) -> None:
        """Have the store's thread carry out what comes over that line."""
        self._has_no_line.clear()
        loop = asyncio.get_running_loop()
        self._owner.thread.add_inlet(StoreInlet(line, self._owner, self, loop))

    @property
    def key(self) -> JournalKey:
        """The key and the number with which the worker makes entries."""
        journal = self._owner.journal
        return JournalKey(journal.number, journal.key.octets)

    def take(self, requests: Sequence[StoreRequest]) -> None:
        """Carry out requests that came together; their answers follow."""
        of_messages: list[OnLine] = []
        for request in requests:
            if isinstance(request, OnLine):
                of_messages.append(request)
            elif isinstance(request, Keep):
                self._owner.keep(request.entry)
            elif isinstance(request, AskNote):
                _ = self._tasks.start(self._note(request))
            else:
                _ = self._tasks.start(self._look(request))
        asked, unknown = self.begun.complete(of_messages)
        self.send_all(unknown)
        if asked:
            self._asked += 1
            self._is_idle.clear()
            self._owner.carry_out([one.request for one in asked], partial(self._answer, asked))

    def _answer(self, asked: Sequence[OfMessage], results: Sequence[Result]) -> None:
        self._asked -= 1
        if not self._asked:
            self._is_idle.set()
        self._send_results(asked, results)

    def _send_results(self, asked: Sequence[OfMessage], results: Sequence[Result]) -> None:
        for one, result in zip(asked, results, strict=True):
            if isinstance(result, Begun):
                # With a problem of the journal too: its row may have been written late.
                self.begun.add(one.request, result.reservation)
            if isinstance(one, AskFinish):
                self.begun.forget((one.request.message_id,))
            self._send(answer_of(one.number, result))
        if self._is_closed:
            self.give_back([one.reservation for one in results if isinstance(one, Begun)])

    # -- for the line --------------------------------------------------------------------------

    def settle(self, answered: Sequence[Answered]) -> None:
        """Do what is left to do after these answers, and send them."""
        asked = [one for one, _ in answered]
        requests = [(one.request, answer) for one, answer in answered]
        self._send_results(asked, self._owner.settled(requests))

    def send_all(self, answers: Sequence[StoreAnswer]) -> None:
        """Send answers over the channel."""
        for answer in answers:
            self._send(answer)

    def give_back(self, reservations: Sequence[Reservation | None]) -> None:
        """Give back what was counted for a worker that has ended without its answer.

        It has not relayed these messages. ``None`` is of one that was not counted.
        """
        for reservation in filter(None, reservations):
            self._owner.give_back(reservation)

    def end_line(self, problem: Exception | None) -> None:
        """The line has ended, and all that came over it has its answer."""
        self._has_no_line.set()
        if problem is not None:
            self._on_error(problem)

    # -- other requests ------------------------------------------------------------------------

    async def _look(self, request: AskLook) -> None:
        look, number = request.request, request.number
        try:
            found = await self._ledger.limit_statuses(look.charges, look.at)
        except Exception as error:  # noqa: BLE001 - the worker's message is refused for it
            self._send(failure(number, error))
        else:
            self._send(LookDone(number, found))

    async def _note(self, request: AskNote) -> None:
        try:
            await self._owner.note(request.tasks, request.events)
        except JournalUnavailableError as error:
            self._send(NoteDone(request.number, encodable(str(error))))
        except Exception as error:  # noqa: BLE001 - the worker's message is refused for it
            self._send(failure(request.number, error))
        else:
            self._send(NoteDone(request.number, None))

    async def close(self) -> None:
        """The worker has ended: nobody knows what became of the messages that it had begun."""
        self._is_closed = True
        _ = await self._tasks.finish(self._owner.timeout_s + _PATIENCE_S)
        with contextlib.suppress(TimeoutError):  # what is begun later is completed at the end
            async with asyncio.timeout(self._owner.timeout_s + _PATIENCE_S):
                await self._has_no_line.wait()
                await self._is_idle.wait()
        begun = self.begun.ids
        self.begun.forget(begun)
        self._owner.leave(begun)
        try:
            await self._owner.journal.give_up(begun)
        except JournalUnavailableError:
            pass  # their outcome is written when the gate ends
        except Exception as error:  # noqa: BLE001 - it must not keep the next worker away
            self._on_error(error)
