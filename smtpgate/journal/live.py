"""The journal of a running gate: every submission before its relay and with its verdict.

It implements the Journal port, and records logins and MAIL commands that were refused.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import ClassVar

from sqlalchemy import Connection

from smtpgate.config.sections import JournalConfig
from smtpgate.core.events import (
    Event,
    JournalChanged,
    RecordsInDoubt,
    RecordsLost,
    RetentionChanged,
    SubmissionDone,
)
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Task
from smtpgate.journal.doubt import Doubt
from smtpgate.journal.entries import RECORDED, Entries
from smtpgate.journal.events import EventRow, EventStatements
from smtpgate.journal.groups import Groups, groups_of
from smtpgate.journal.presence import Presence
from smtpgate.journal.retention import Retention, Size
from smtpgate.journal.schema import records
from smtpgate.journal.store import JournalStore
from smtpgate.journal.tasks import TaskRow, keep_new, task_rows
from smtpgate.journal.terms import TermKey, TermKeyError, new_key, read_key
from smtpgate.journal.writer import RecordWriter, Tally
from smtpgate.ports import Clock, EventSink, JournalUnavailableError, Reading
from smtpgate.sql.upgrade import SchemaError
from smtpgate.tasks import TaskOwner


class LiveJournal:
    """Implements the Journal and EventSink ports over a store.

    It is started before anything is kept, and stopped after everything is.
    """

    reads: ClassVar[tuple[type, ...]] = RECORDED

    def __init__(
        self,
        store: JournalStore,
        settings: JournalConfig,
        *,
        clock: Clock,
        events: EventSink,
        on_error: Callable[[BaseException], None],
        groups: Groups | None = None,
    ) -> None:
        """``groups`` write to the store; without them it gets some of its own."""
        self.store = store
        self.settings = settings
        self.is_needed = settings.on_failure == "refuse"
        self._clock = clock
        self._events = events
        self._on_error = on_error
        self._retention: Retention | None = None
        self.presence: Presence | None = None
        self._tasks = TaskOwner()
        self.writer = RecordWriter(
            groups or groups_of(store.database, clock),
            open_again=self._open_again,
            clock=clock,
            on_change=self._publish_change,
            on_lost=self._publish_loss,
            on_error=on_error,
            on_owed=self._note_owed,
        )

    async def start(self) -> None:
        """Open the store, and start its background work.

        A journal that is not needed may be opened later. Raises SchemaError, TermKeyError,
        JournalUnavailableError or OSError.
        """
        self.presence = self._present()
        try:
            self._key = await self.store.open(may_upgrade=self.store.database.is_sqlite)
        except (JournalUnavailableError, SchemaError, TermKeyError, OSError) as error:
            if self.is_needed:
                raise
            self._key = self._key_meanwhile()
            self.writer.fail(str(error))
        self.entries = Entries(
            self.settings,
            self._key,
            None if self.presence is None else self.presence.number,
            clock=self._clock,
            on_left_out=self._note_left_out,
        )
        self._retention = Retention(
            self.writer,
            self._key,
            max_age=timedelta(days=self.settings.max_age_days),
            max_octets=self.settings.max_octets,
            clock=self._clock,
            on_change=self._publish_retention,
            on_error=self._on_error,
        )
        works = [self.writer.mend(), self._retention.run()]
        if self.presence is not None:
            await self.presence.start(self._key)
            works.append(self.presence.run())
        for work in works:
            _ = self._tasks.start(work, name="journal")

    def _present(self) -> Presence | None:
        try:
            return Presence(
                self.writer,
                self.store.key_file.parent,
                clock=self._clock,
                on_doubt=self._publish_doubt,
                on_lost=self.writer.lose,
                on_error=self._on_error,
            )
        except OSError as error:
            if self.is_needed:
                raise
            self._on_error(error)
            return None

    def _key_meanwhile(self) -> TermKey:
        """The key of the file, or a new one, which is written when a journal is begun with it.

        The journal may have been begun already; then its key has to be put back.
        """
        try:
            return read_key(self.store.key_file)
        except (TermKeyError, OSError):
            return new_key()

    async def _open_again(self) -> None:
        """Open the store again; terms can be found only with the key of the start."""
        key = await self.store.open(may_upgrade=self.store.database.is_sqlite, new=self._key)
        if key.check != self._key.check:
            raise TermKeyError(
                f"{self.store.key_file}: is not the key that the gate was started with; "
                "start it again"
            )

    async def give_up(self, message_ids: Collection[str]) -> None:
        """Complete records whose process has died; their outcome is not known.

        If that cannot be written now, it is when the gate ends. Raises
        JournalUnavailableError.
        """
        if not message_ids:
            return
        doubt, now, in_doubt = Doubt(self._key), self._clock.now(), 0
        is_its = records.c.id.in_(message_ids)
        while some := await self.writer.run(
            lambda connection: doubt.give_up(connection, is_its, now)
        ):
            in_doubt += some
        if in_doubt:
            self._publish_doubt(in_doubt)

    @property
    def key(self) -> TermKey:
        """The key of its terms, once it is started."""
        return self._key

    @property
    def number(self) -> int | None:
        """The number that its records have; ``None`` without a presence."""
        return None if self.presence is None else self.presence.number

    async def stop(self) -> None:
        """Write the entries that wait, if that is possible, and close the store."""
        self._tasks.cancel()
        await self._tasks.drain(1)
        try:
            await self.writer.finish()
            if self.presence is not None:
                await self.presence.end()
        finally:
            await self.writer.close()
            await self.store.close()

    def check(self) -> tuple[bool, str]:
        """True if the journal lets mail pass, and its state in words."""
        return self.problem is None or not self.is_needed, self.problem or "open"

    @property
    def problem(self) -> str | None:
        """The problem that prevents writing at present, or ``None``."""
        return self.writer.problem

    @property
    def retention_problem(self) -> str | None:
        """The problem that prevents the deletion of old records at present, or ``None``."""
        return None if self._retention is None else self._retention.problem

    @property
    def tally(self) -> Tally:
        """The counts of written records and of failures."""
        return self.writer.tally

    @property
    def owed(self) -> int:
        """The number of records that wait until the journal can be written again."""
        return self.writer.owed

    @property
    def size(self) -> Size:
        """The approximate size of the journal."""
        return Size() if self.presence is None else self.presence.size

    def readings(self) -> Iterator[Reading]:
        """The state of the journal, for a scrape."""
        tally, size = self.tally, self.size
        yield Reading("smtpgate_journal_up", 0 if self.problem else 1)
        yield Reading("smtpgate_journal_retention_up", 0 if self.retention_problem else 1)
        yield Reading("smtpgate_journal_records", size.records)
        yield Reading("smtpgate_journal_octets", size.octets)
        yield Reading("smtpgate_journal_owed", self.owed)
        yield Reading("smtpgate_journal_written_total", tally.records)
        yield Reading("smtpgate_journal_commits_total", tally.commits)
        yield Reading("smtpgate_journal_commit_seconds_total", tally.commit_s)
        yield Reading("smtpgate_journal_failures_total", tally.failures)
        yield Reading("smtpgate_journal_lost_total", tally.lost)
        yield Reading("smtpgate_journal_left_out_total", tally.left_out)
        yield Reading("smtpgate_journal_in_doubt_total", tally.in_doubt)

    # -- the port ------------------------------------------------------------------------------

    async def begin(self, done: SubmissionDone) -> None:
        """Write the record of a submission before its relay."""
        entry = self.entries.beginning(done)
        await self.writer.put(entry)
        self.entries.begun(entry)

    async def note(self, tasks: Sequence[Task], events: Sequence[SendingEvent]) -> None:
        """Write provisional events of a submission with their tasks, before its final dot."""
        rows = self.entries.event_rows(events, is_provisional=True)
        await self.write_noted(task_rows(tasks, "provisional"), rows)

    async def write_noted(self, tasks: Sequence[TaskRow], events: Sequence[EventRow]) -> None:
        """Write rows that are not there yet."""
        if self.problem is not None:
            raise JournalUnavailableError(self.problem)
        try:
            await self.writer.run(partial(_write_noted, tasks, events))
        except JournalUnavailableError as error:
            self.writer.fail(str(error))
            raise

    async def finish(self, done: SubmissionDone) -> None:
        """Write the verdict, or the whole record of a submission that was not begun."""
        entry = self.entries.ending(done)
        if entry is not None:
            await self.writer.put(entry)

    def publish(self, event: Event) -> None:
        """Record a login or a MAIL command that was refused, without waiting for the write."""
        entry = self.entries.of_event(event)
        if entry is not None:
            self.writer.add(entry)

    # -- events -------------------------------------------------------------------------------

    def _note_left_out(self) -> None:
        self.tally.left_out += 1

    def _note_owed(self, records: int) -> None:
        if self.presence is not None:
            self.presence.owes(records)

    def _publish_change(self, problem: str | None, records: int) -> None:
        self._events.publish(JournalChanged(problem, records, self._clock.now()))

    def _publish_retention(self, problem: str | None) -> None:
        self._events.publish(RetentionChanged(problem, self._clock.now()))

    def _publish_doubt(self, records: int) -> None:
        self.tally.in_doubt += records
        self._events.publish(RecordsInDoubt(records, self._clock.now()))

    def _publish_loss(self, records: int, problem: str) -> None:
        self._events.publish(RecordsLost(records, problem, self._clock.now()))


def _write_noted(
    tasks: Sequence[TaskRow], events: Sequence[EventRow], connection: Connection
) -> None:
    _ = EventStatements().keep(connection, events)
    _ = keep_new(connection, tasks)
