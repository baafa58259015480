"""The requests of one worker to the store that the parent owns, and what it leaves behind."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from smtpgate.core.limits import LimitExceededError
from smtpgate.gate.frames import (
    AskBegin,
    AskFinish,
    AskLook,
    AskNote,
    BeginDone,
    BeginRefused,
    FinishDone,
    JournalKey,
    Keep,
    LookDone,
    NotDone,
    NoteDone,
    StoreAnswer,
    StoreRequest,
)
from smtpgate.ports import Begun, JournalUnavailableError, Ledger, LedgerUnavailableError
from smtpgate.store.owner import Result, StoreOwner
from smtpgate.tasks import TaskOwner

# Beyond the time that a request may take.
_PATIENCE_S: Final = 5.0

OfMessage: TypeAlias = AskBegin | AskFinish


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
        self._owner = owner
        self._send = send
        self._ledger = ledger
        self._on_error = on_error
        self._begun: set[str] = set()
        self._asked = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_closed = False
        self._tasks = TaskOwner()

    @property
    def key(self) -> JournalKey:
        """The key and the number with which the worker makes entries."""
        journal = self._owner.journal
        return JournalKey(journal.number, journal.key.octets)

    def take(self, requests: Sequence[StoreRequest]) -> None:
        """Carry out requests that came together; their answers follow."""
        asked: list[OfMessage] = []
        for request in requests:
            if isinstance(request, OfMessage):
                asked.append(request)
            elif isinstance(request, Keep):
                self._owner.keep(request.entry)
            elif isinstance(request, AskNote):
                _ = self._tasks.start(self._note(request))
            else:
                _ = self._tasks.start(self._look(request))
        if asked:
            self._asked += 1
            self._is_idle.clear()
            self._owner.carry_out([one.request for one in asked], partial(self._answer, asked))

    def _answer(self, asked: Sequence[OfMessage], results: Sequence[Result]) -> None:
        self._asked -= 1
        if not self._asked:
            self._is_idle.set()
        for one, result in zip(asked, results, strict=True):
            if isinstance(result, Begun):
                self._take_begun(one, result)
                answer: StoreAnswer = BeginDone(one.number, result.reservation, result.problem)
            elif isinstance(result, Exception):
                answer = _failure(one.number, result)
            else:
                answer = FinishDone(one.number, result.crossings, result.is_recorded)
            if isinstance(one, AskFinish):
                self._begun.discard(one.request.message_id)
            self._send(answer)

    def _take_begun(self, asked: OfMessage, begun: Begun) -> None:
        # With a problem of the journal too: its row may have been written late.
        self._begun.add(asked.request.message_id)
        if self._is_closed and begun.reservation is not None:
            # Its worker has ended without this answer, and so has not relayed it.
            self._owner.give_back(begun.reservation)

    async def _look(self, request: AskLook) -> None:
        look, number = request.request, request.number
        try:
            found = await self._ledger.limit_statuses(look.charges, look.at)
        except Exception as error:  # noqa: BLE001 - the worker's message is refused for it
            self._send(_failure(number, error))
        else:
            self._send(LookDone(number, found))

    async def _note(self, request: AskNote) -> None:
        try:
            await self._owner.note(request.tasks, request.events)
        except JournalUnavailableError as error:
            self._send(NoteDone(request.number, _encodable(str(error))))
        except Exception as error:  # noqa: BLE001 - the worker's message is refused for it
            self._send(_failure(request.number, error))
        else:
            self._send(NoteDone(request.number, None))

    async def close(self) -> None:
        """The worker has ended: nobody knows what became of the messages that it had begun."""
        self._is_closed = True
        _ = await self._tasks.finish(self._owner.timeout_s + _PATIENCE_S)
        with contextlib.suppress(TimeoutError):  # what is begun later is completed at the end
            await asyncio.wait_for(self._is_idle.wait(), self._owner.timeout_s + _PATIENCE_S)
        begun, self._begun = self._begun, set()
        self._owner.leave(begun)
        try:
            await self._owner.journal.give_up(begun)
        except JournalUnavailableError:
            pass  # their outcome is written when the gate ends
        except Exception as error:  # noqa: BLE001 - it must not keep the next worker away
            self._on_error(error)


def _failure(number: int, error: Exception) -> StoreAnswer:
    """The answer to a request that failed."""
    if isinstance(error, LimitExceededError):
        return BeginRefused(
            number,
            error.charge,
            error.limit,
            error.recipients,
            error.left,
            error.retry_after,
        )
    if isinstance(error, LedgerUnavailableError):
        return NotDone(number, _encodable(str(error)), is_defect=False)
    words = f"{type(error).__name__}: {error}"
    return NotDone(number, _encodable(words), is_defect=True)


def _encodable(text: str) -> str:
    """The text, with octets of a path that are not UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
