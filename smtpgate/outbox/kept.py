"""The tasks that are kept, for people who look after them: found, tried again, dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, literal_column, select, tuple_, update

from smtpgate.core.moments import microseconds, moment
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Task, TaskState
from smtpgate.journal.schema import tasks
from smtpgate.journal.store import JournalStore
from smtpgate.journal.tasks import keep_new, task_of, task_rows
from smtpgate.ports import Added

_COLUMNS: Final = (
    tasks.c.id,
    tasks.c.state,
    tasks.c.created_us,
    tasks.c.due_us,
    tasks.c.done_us,
    tasks.c.attempts,
    tasks.c.answer,
    tasks.c.payload,
)
# A lease that is under way stays what it is.
_CAN_BE_TRIED: Final = tasks.c.state.in_(("waiting", "dead"))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTask:
    """A task with its state; ``answer`` is the destination's last one, or the problem."""

    id: str
    task: Task
    state: TaskState
    created_at: datetime
    due_at: datetime
    done_at: datetime | None
    attempts: int
    answer: str

    @property
    def position(self) -> tuple[int, str]:
        """Its place in the listing."""
        return microseconds(self.created_at), self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """The tasks to find: those for which everything that is given is true."""

    account_id: str | None = None
    message_id: str | None = None
    state: str | None = None
    kind: str | None = None
    destination: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTasks:
    """The tasks that are not done: how many wait, since when, and how many were given up."""

    waiting: int
    oldest: datetime | None
    dead: int


class KeptTasks:
    """The tasks beside one journal."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store

    async def find(
        self, wanted: TaskFilter, before: tuple[int, str] | None, limit: int
    ) -> Sequence[KeptTask]:
        """Tasks, the newest first, from behind a position on."""
        query = (
            select(*_COLUMNS)
            .where(*_conditions(wanted))
            .order_by(tasks.c.created_us.desc(), tasks.c.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(tuple_(tasks.c.created_us, tasks.c.id) < tuple_(*before))
        async with self._store.reading() as connection:
            return [_kept(row) for row in await connection.execute(query)]

    async def open_tasks(self) -> OpenTasks:
        """The tasks that are not done."""
        query = select(tasks.c.state, func.count(), func.min(tasks.c.created_us)).where(
            tasks.c.state.in_(("waiting", "dead"))
        )
        async with self._store.reading() as connection:
            rows = await connection.execute(query.group_by(tasks.c.state))
            found = {state: (number, oldest) for state, number, oldest in rows}
        number, oldest = found.get("waiting", (0, None))
        return OpenTasks(
            waiting=number,
            oldest=None if oldest is None else moment(oldest),
            dead=found.get("dead", (0, None))[0],
        )

    async def beginning_with(self, beginning: str, limit: int) -> Sequence[KeptTask]:
        """The tasks whose ids begin so."""
        end = beginning[:-1] + chr(ord(beginning[-1]) + 1)
        is_it = (tasks.c.id >= beginning) & (tasks.c.id < end)
        async with self._store.reading() as connection:
            found = await connection.execute(select(*_COLUMNS).where(is_it).limit(limit))
            return [_kept(row) for row in found]

    async def add(self, new: Sequence[Task], events: Sequence[SendingEvent] = ()) -> Added:
        """Keep tasks that a gate carries out; implements the Outbox port without events."""
        if events:
            raise ValueError("events are kept by the gate that they come to")
        rows = task_rows(new, "waiting")
        async with self._store.database.writing() as connection:
            return Added(await connection.run_sync(keep_new, rows))

    async def retry(self, task_ids: Sequence[str], now: datetime) -> int:
        """Have tasks tried at once, as if they were new; the number of them."""
        again = (
            update(tasks)
            .where(tasks.c.id.in_(task_ids), _CAN_BE_TRIED, tasks.c.leased_by.is_(None))
            .values(
                state=literal_column("'waiting'"),
                created_us=microseconds(now),
                due_us=microseconds(now),
                done_us=None,
                attempts=0,
            )
        )
        async with self._store.database.writing() as connection:
            return (await connection.execute(again)).rowcount

    async def drop(self, task_ids: Sequence[str]) -> int:
        """Delete tasks that are not sent yet; the number of them."""
        gone = delete(tasks).where(tasks.c.id.in_(task_ids), _CAN_BE_TRIED)
        async with self._store.database.writing() as connection:
            return (await connection.execute(gone)).rowcount


def _conditions(wanted: TaskFilter) -> list[ColumnElement[bool]]:
    columns = {
        tasks.c.account_id: wanted.account_id,
        tasks.c.message_id: wanted.message_id,
        tasks.c.state: wanted.state,
        tasks.c.kind: wanted.kind,
        tasks.c.destination: wanted.destination,
    }
    return [column == value for column, value in columns.items() if value is not None]


def _kept(row: Any) -> KeptTask:  # noqa: ANN401 - a row
    return KeptTask(
        id=row.id,
        task=task_of(row.payload),
        state=row.state,
        created_at=moment(row.created_us),
        due_at=moment(row.due_us),
        done_at=None if row.done_us is None else moment(row.done_us),
        attempts=row.attempts,
        answer=row.answer,
    )
