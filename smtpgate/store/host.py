"""One store a host: ledger and journal in SQLite files of one owner, one request for both.

Requests are made here, where the message is; the owner is in this process or in its parent.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from smtpgate.core.events import SubmissionDone
from smtpgate.core.limits import Charge, LimitExceededError, Reservation
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Task
from smtpgate.journal.entries import Entries
from smtpgate.journal.events import EventRow
from smtpgate.journal.tasks import TaskRow, task_rows
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ledger.transactions import Settle
from smtpgate.ports import Begun, Finished
from smtpgate.store.requests import Begin, Finish


class Owner(Protocol):
    """Carries out requests."""

    async def begin(self, request: Begin) -> Begun:
        """Count the recipients, and write the row.

        Raises LimitExceededError or LedgerUnavailableError; then nothing is counted or written.
        """

    async def note(self, tasks: tuple[TaskRow, ...], events: tuple[EventRow, ...]) -> None:
        """Write provisional events and tasks. Raises JournalUnavailableError."""

    async def finish(self, request: Finish) -> Finished:
        """Settle the reservation, and write the verdict."""


class WithEntries(Protocol):
    """Has what makes entries, once it is started."""

    entries: Entries


class HostStore:
    """Implements the Store port over an owner."""

    def __init__(self, owner: Owner, ledger: SqliteLedger, journal: WithEntries) -> None:
        self._owner = owner
        self._ledger = ledger
        self._journal = journal

    async def begin(
        self, done: SubmissionDone, charges: Sequence[Charge], now: datetime
    ) -> Begun:
        """Count the recipients, and keep what is known of the submission."""
        submission, reserve, entries = done.submission, None, self._journal.entries
        if charges:
            recipients = len(submission.envelope.recipients)
            reserve = self._ledger.request(charges, recipients, now)
        entry = entries.beginning(done)
        try:
            begun = await self._owner.begin(Begin(reserve, entry, submission.message_id))
        except LimitExceededError as refusal:
            self._ledger.full.note_refused(refusal)
            raise
        if begun.reservation is not None:
            self._ledger.full.note_passed(begun.reservation)
        if begun.problem is None:
            entries.begun(entry)
        return begun

    async def note(self, tasks: Sequence[Task], events: Sequence[SendingEvent]) -> None:
        """Keep provisional events with their tasks."""
        rows = self._journal.entries.event_rows(events, is_provisional=True)
        await self._owner.note(task_rows(tasks, "provisional"), rows)

    async def finish(
        self, done: SubmissionDone, reservation: Reservation | None, now: datetime
    ) -> Finished:
        """Settle the reservation, and keep the verdict."""
        settle = None if reservation is None else Settle(reservation, done.counted, now)
        try:
            entry = self._journal.entries.ending(done)
        except Exception:
            if settle is not None:
                _ = await self._owner.finish(Finish(settle, None, done.submission.message_id))
            raise
        if settle is None and entry is None:
            return Finished()
        return await self._owner.finish(Finish(settle, entry, done.submission.message_id))
