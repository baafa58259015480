"""The queue: tasks in the journal's database, leased to senders and settled by them.

A lease moves the time when a task is due ahead, and names the gate that has it. The leases of a
gate that ended are released as soon as the journal knows it, or when they end. A result counts
only if the lease is still the sender's own, which the number of attempts tells.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, bindparam, delete, func, literal_column, select, text, update

from smtpgate.core.moments import microseconds, moment
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.retries import Settled
from smtpgate.core.outbox.task import LeasedTask, Task
from smtpgate.journal.events import EventRow, EventStatements, event_rows
from smtpgate.journal.schema import events, tasks, writers
from smtpgate.journal.store import JournalStore
from smtpgate.journal.tasks import TaskRow, keep_new, task_of, task_rows
from smtpgate.ports import Added
from smtpgate.sql.batches import Work

T = TypeVar("T")
_WAITING: Final = tasks.c.state == literal_column("'waiting'")
_STEP: Final = 500
# Later than any verdict comes, so nothing will ever say what became of the message.
_NO_VERDICT: Final = timedelta(hours=1)
# The distinct lanes by steps over the index, however many tasks wait in each.
_LANES: Final = text(
    """
    WITH RECURSIVE lanes(lane) AS (
        SELECT min(lane) FROM journal_tasks WHERE state = 'waiting'
        UNION ALL
        SELECT (SELECT min(t.lane) FROM journal_tasks t
                WHERE t.state = 'waiting' AND t.lane > lanes.lane)
        FROM lanes WHERE lanes.lane IS NOT NULL
    )
    SELECT lanes.lane, (SELECT min(t.due_us) FROM journal_tasks t
                        WHERE t.state = 'waiting' AND t.lane = lanes.lane)
    FROM lanes WHERE lanes.lane IS NOT NULL
    """
)
_SETTLE: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("of_id"), _WAITING, tasks.c.attempts == bindparam("of"))
    .values(
        state=bindparam("to"),
        due_us=bindparam("due"),
        done_us=bindparam("done"),
        answer=bindparam("said"),
        leased_by=None,
    )
)


class Runner(Protocol):
    """Does work in a transaction of the journal. Raises JournalUnavailableError."""

    def __call__(self, work: Work[T], /) -> Awaitable[T]:
        """The result of the work."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The tasks of one state, kind and destination kind."""

    state: str
    kind: str
    destination_kind: str
    number: int
    oldest_at: datetime


class TaskQueue:
    """Implements the Outbox port, and hands tasks to a sender.

    Changes are carried out by ``run``, in the transactions of the journal; ``store`` is read on
    connections of its own, so that a long table delays no message. ``number`` has the gate's
    number, for its leases.
    """

    def __init__(
        self,
        run: Runner,
        store: JournalStore,
        number: Callable[[], int | None],
        *,
        keeps_recipients: bool = True,
    ) -> None:
        """``keeps_recipients``: the journal keeps the addresses of recipients."""
        self._run = run
        self._store = store
        self._number = number
        self._keeps_recipients = keeps_recipients
        self._events = EventStatements()
        self.on_added: Callable[[], object] = lambda: None

    async def add(self, tasks: Sequence[Task], events: Sequence[SendingEvent] = ()) -> Added:
        """Keep events and tasks that are in force at once; those of them that are new.

        Tasks of an event that is not new are not kept: it had its tasks.
        """
        of_events = event_rows(events, with_addresses=self._keeps_recipients)
        of_tasks = task_rows(tasks, "waiting")
        added = await self._run(partial(_add, of_tasks, of_events))
        if added.tasks:
            self.on_added()
        return added

    @property
    def is_shared(self) -> bool:
        """True if gates on other hosts may have leases too."""
        return not self._store.database.is_sqlite

    async def release_orphans(self) -> None:
        """Release the leases of gates that have ended, as the journal knows them."""
        is_known = select(writers.c.id).where(writers.c.id == tasks.c.leased_by).exists()
        release = (
            update(tasks)
            .where(_WAITING, tasks.c.leased_by.is_not(None), ~is_known)
            .values(due_us=tasks.c.created_us, leased_by=None)
        )
        await self._run(lambda connection: connection.execute(release).rowcount)

    async def lanes(self) -> Mapping[str, datetime]:
        """The lanes with waiting tasks, and when the first of each is due."""
        async with self._store.reading() as connection:
            found = (await connection.execute(_LANES)).all()
        return {lane: moment(due_us) for lane, due_us in found}

    async def lease(
        self, wanted: Mapping[str, int], now: datetime, lease_s: float
    ) -> Sequence[LeasedTask]:
        """Lease so many due tasks of each lane, those first that are due first."""
        until = now + timedelta(seconds=lease_s)
        return await self._run(lambda connection: self._lease(connection, wanted, now, until))

    def _lease(
        self, connection: Connection, wanted: Mapping[str, int], now: datetime, until: datetime
    ) -> list[LeasedTask]:
        found: list[Any] = []
        for lane, number in wanted.items():
            query = (
                select(tasks.c.id, tasks.c.payload, tasks.c.attempts, tasks.c.created_us)
                .where(_WAITING, tasks.c.lane == lane, tasks.c.due_us <= microseconds(now))
                .order_by(tasks.c.due_us)
                .limit(number)
                .with_for_update(skip_locked=True)  # of several gates one has it
            )
            found.extend(connection.execute(query).all())
        for ids in _pieces([row.id for row in found]):
            leased = (
                update(tasks)
                .where(tasks.c.id.in_(ids))
                .values(
                    due_us=microseconds(until),
                    attempts=tasks.c.attempts + 1,
                    leased_by=self._number(),
                )
            )
            connection.execute(leased)
        return [
            LeasedTask(task_of(row.payload), row.attempts + 1, moment(row.created_us))
            for row in found
        ]

    async def settle(self, these: Sequence[Settled]) -> None:
        """Keep what became of leased tasks."""
        rows = [
            {
                "of_id": one.task_id,
                "of": one.number,
                "to": one.state,
                "due": microseconds(one.due_at),
                "done": None if one.state == "waiting" else microseconds(one.at),
                "said": one.answer,
            }
            for one in these
        ]
        if rows:
            await self._run(lambda connection: connection.execute(_SETTLE, rows))

    async def release(self, these: Sequence[LeasedTask], now: datetime) -> None:
        """Give leases back: these attempts were not made."""
        ids = [one.task.id for one in these]

        def work(connection: Connection) -> None:
            for some in _pieces(ids):
                back = (
                    update(tasks)
                    .where(tasks.c.id.in_(some), _WAITING, tasks.c.leased_by == self._number())
                    .values(
                        due_us=microseconds(now),
                        attempts=tasks.c.attempts - 1,
                        leased_by=None,
                    )
                )
                connection.execute(back)

        await self._run(work)

    async def backlog(self) -> Sequence[Backlog]:
        """The numbers of tasks that wait and of those that are dead."""
        columns = (tasks.c.state, tasks.c.kind, tasks.c.destination_kind)
        query = (
            select(*columns, func.count(), func.min(tasks.c.created_us))
            .where(tasks.c.state.in_(("waiting", "dead")))
            .group_by(*columns)
        )
        async with self._store.reading() as connection:
            found = (await connection.execute(query)).all()
        return [Backlog(row[0], row[1], row[2], row[3], moment(row[4])) for row in found]

    async def tidy(self, now: datetime, keep_s: float) -> int:
        """Delete some tasks that are sent or dead for so long; 0 when none is left.

        Provisional ones without any verdict come into force, as their events do.
        """
        before = microseconds(now - timedelta(seconds=keep_s))
        lost = microseconds(now - _NO_VERDICT)

        def work(connection: Connection) -> int:
            self._events.put_in_force(connection, events.c.at_us < lost)
            provisional = tasks.c.state == literal_column("'provisional'")
            in_force = update(tasks).where(provisional, tasks.c.created_us < lost)
            connection.execute(in_force.values(state="waiting"))
            old = select(tasks.c.id).where(tasks.c.done_us < before).limit(_STEP)
            return connection.execute(delete(tasks).where(tasks.c.id.in_(old))).rowcount

        return await self._run(work)


def _add(
    of_tasks: Sequence[TaskRow], of_events: Sequence[EventRow], connection: Connection
) -> Added:
    new = EventStatements().keep(connection, of_events)
    known = {row.id for row in of_events} - new
    return Added(
        keep_new(connection, [row for row in of_tasks if row.event_id not in known]), new
    )


def _pieces(ids: Sequence[str]) -> Iterator[Collection[str]]:
    for at in range(0, len(ids), _STEP):
        yield ids[at : at + _STEP]
