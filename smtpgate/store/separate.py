"""A ledger and a journal that are kept in different ways: each request is two, in order."""

from collections.abc import Callable, Sequence
from datetime import datetime

from smtpgate.core.events import SubmissionDone
from smtpgate.core.limits import Charge, Crossing, Reservation
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Task
from smtpgate.ports import Begun, Finished, Journal, JournalUnavailableError, Ledger


def _nothing() -> None:
    """Nobody waits for tasks."""


class SeparateStores:
    """Implements the Store port over the two ports.

    ``on_error`` is called with an error that no port has: the verdict stays as it is.
    ``on_tasks`` is called when tasks came into force.
    """

    def __init__(
        self, ledger: Ledger, journal: Journal, *, on_error: Callable[[BaseException], None]
    ) -> None:
        self.on_tasks: Callable[[], object] = _nothing
        self._ledger = ledger
        self._journal = journal
        self._on_error = on_error

    async def begin(
        self, done: SubmissionDone, charges: Sequence[Charge], now: datetime
    ) -> Begun:
        """Count the recipients, then keep what is known of the submission."""
        reservation = None
        if charges:
            recipients = len(done.submission.envelope.recipients)
            reservation = await self._ledger.reserve(charges, recipients, now)
        try:
            await self._journal.begin(done)
        except JournalUnavailableError as error:
            return Begun(reservation, str(error))
        except BaseException:
            if reservation is not None:
                await self._settle(reservation, 0, now)
            raise
        return Begun(reservation)

    async def note(self, tasks: Sequence[Task], events: Sequence[SendingEvent]) -> None:
        """Keep provisional events with their tasks in the journal."""
        await self._journal.note(tasks, events)

    async def finish(
        self, done: SubmissionDone, reservation: Reservation | None, now: datetime
    ) -> Finished:
        """Settle the reservation, then keep the verdict."""
        crossings: tuple[Crossing, ...] = ()
        if reservation is not None:
            crossings = await self._settle(reservation, done.counted, now)
        is_recorded = False
        try:
            await self._journal.finish(done)
            is_recorded = True
            if done.tasks:
                self.on_tasks()
        except JournalUnavailableError:
            pass
        except Exception as error:  # noqa: BLE001 - the message's fate is decided already
            self._on_error(error)
        return Finished(crossings, is_recorded)

    async def _settle(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """Commit what was or may have been accepted, refund the rest."""
        try:
            if accepted:
                return await self._ledger.commit(reservation, accepted, now)
            await self._ledger.refund(reservation, now)
        except Exception as error:  # noqa: BLE001 - the message's fate is decided already
            # The count stays as it was reserved, and the client gets the verdict all the same.
            self._on_error(error)
        return ()
