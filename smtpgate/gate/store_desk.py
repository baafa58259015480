"""The requests of one worker to the store that the parent owns, and what it leaves behind."""

from collections.abc import Callable
from typing import Final

from smtpgate.core.limits import LimitExceededError
from smtpgate.gate.frames import (
    AskBegin,
    AskFinish,
    AskLook,
    BeginDone,
    BeginRefused,
    FinishDone,
    JournalKey,
    Keep,
    LookDone,
    NotDone,
    StoreAnswer,
    StoreRequest,
)
from smtpgate.ports import JournalUnavailableError, Ledger, LedgerUnavailableError
from smtpgate.store.owner import StoreOwner
from smtpgate.store.requests import Begin, Finish
from smtpgate.tasks import TaskOwner

# Beyond the time that a request may take.
_PATIENCE_S: Final = 5.0


class StoreDesk:
    """Carries out the requests of one worker."""

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
        self._tasks = TaskOwner()

    @property
    def key(self) -> JournalKey:
        """The key and the number with which the worker makes entries."""
        journal = self._owner.journal
        return JournalKey(journal.number, journal.key.octets)

    def take(self, request: StoreRequest) -> None:
        """Carry out a request; its answer follows."""
        if isinstance(request, Keep):
            self._owner.keep(request.entry)
        else:
            _ = self._tasks.start(self._carry_out(request))

    async def _carry_out(self, request: AskBegin | AskFinish | AskLook) -> None:
        try:
            answer = await self._answer(request)
        except LimitExceededError as error:
            answer = BeginRefused(
                request.number,
                error.charge,
                error.limit,
                error.recipients,
                error.left,
                error.retry_after,
            )
        except LedgerUnavailableError as error:
            answer = NotDone(request.number, str(error), is_defect=False)
        except Exception as error:  # noqa: BLE001 - the worker's message is refused for it
            answer = NotDone(request.number, f"{type(error).__name__}: {error}", is_defect=True)
        self._send(answer)

    async def _answer(self, request: AskBegin | AskFinish | AskLook) -> StoreAnswer:
        match request:
            case AskBegin(number, begin):
                return await self._begin(number, begin)
            case AskFinish(number, finish):
                return await self._finish(number, finish)
            case AskLook(number, look):
                found = await self._ledger.limit_statuses(look.charges, look.at)
                return LookDone(number, found)

    async def _begin(self, number: int, begin: Begin) -> StoreAnswer:
        begun = await self._owner.begin(begin)
        # With a problem of the journal too: its row may have been written late.
        self._begun.add(begin.message_id)
        return BeginDone(number, begun.reservation, begun.problem)

    async def _finish(self, number: int, finish: Finish) -> StoreAnswer:
        self._begun.discard(finish.message_id)
        finished = await self._owner.finish(finish)
        return FinishDone(number, finished.crossings, finished.is_recorded)

    async def close(self) -> None:
        """The worker has ended: nobody knows what became of the messages that it had begun."""
        _ = await self._tasks.finish(self._owner.timeout_s + _PATIENCE_S)
        begun, self._begun = self._begun, set()
        self._owner.leave(begun)
        try:
            await self._owner.journal.give_up(begun)
        except JournalUnavailableError:
            pass  # their outcome is written when the gate ends
        except Exception as error:  # noqa: BLE001 - it must not keep the next worker away
            self._on_error(error)
