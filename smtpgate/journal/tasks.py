"""Tasks as rows, and the statements that write them in the transaction of a verdict.

Before the final dot a task is provisional. The verdict puts it in force, or deletes it when
the client is to try again or was refused. If a process ends in between, nobody knows the reply
that the client got: its record gets the outcome ``in-doubt``, and the task comes into force.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, delete, literal_column, select, update
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.engine import Dialect

from smtpgate.core.moments import microseconds
from smtpgate.core.outbox.task import Task, TaskState
from smtpgate.journal.schema import tasks
from smtpgate.sql.batches import Plain, SqlStatement
from smtpgate.sql.insert import insert_into

_SQLITE: Final = pysqlite.dialect()
_IDS_AT_ONCE: Final = 500
_PROVISIONAL: Final = tasks.c.state == literal_column("'provisional'")
_encode: Final = msgspec.msgpack.Encoder().encode
task_of: Final = msgspec.msgpack.Decoder(Task).decode
"""The task of a payload."""


class TaskRow(NamedTuple):
    """A new row of ``journal_tasks`` as either driver takes it."""

    id: str
    event_id: str
    message_id: str
    kind: str
    destination_kind: str
    destination: str
    account_id: str
    lane: str
    state: TaskState
    created_us: int
    due_us: int
    attempts: int
    answer: str
    payload: bytes


def task_rows(of_these: Iterable[Task], state: TaskState) -> tuple[TaskRow, ...]:
    """The rows of tasks in that state, due at once."""
    return tuple(_row(task, state) for task in of_these)


def _row(task: Task, state: TaskState) -> TaskRow:
    event, destination = task.event, task.destination
    at_us = microseconds(event.at)
    return TaskRow(
        task.id,
        event.id,
        event.mail.message_id,
        event.kind,
        destination.kind,
        destination.name,
        destination.account_id,
        destination.lane,
        state,
        at_us,
        at_us,
        0,
        "",
        _encode(task),
    )


def put_in_force(connection: Connection, message_ids: Collection[str]) -> None:
    """Have the provisional tasks of messages carried out: their clients may have got a 250."""
    if message_ids:
        of_these = tasks.c.message_id.in_(message_ids)
        connection.execute(update(tasks).where(of_these, _PROVISIONAL).values(state="waiting"))


def keep_new(connection: Connection, rows: Sequence[TaskRow]) -> int:
    """Write the rows that are not there yet; the number of them."""
    ids, there = [row.id for row in rows], set[str]()
    for at in range(0, len(ids), _IDS_AT_ONCE):  # a statement may have some 32,000 values
        known = select(tasks.c.id).where(tasks.c.id.in_(ids[at : at + _IDS_AT_ONCE]))
        there.update(connection.execute(known).scalars())
    new = list({row.id: row for row in rows if row.id not in there}.values())
    TaskStatements().keep(connection, sorted(new))
    return len(new)


class TaskStatements:
    """The statements, compiled for one kind of database when they are first used."""

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[SqlStatement, SqlStatement]] = {}

    def keep(self, connection: Plain, rows: Sequence[TaskRow]) -> None:
        """Write rows; one that is provisional comes into force if the new one is in force."""
        self._run(connection, 0, rows)

    def drop(self, connection: Plain, message_ids: Sequence[str]) -> None:
        """Delete the provisional ones of messages."""
        self._run(connection, 1, [(one,) for one in message_ids])

    def _run(self, connection: Plain, which: int, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        dialect: Dialect = _SQLITE
        if isinstance(connection, Connection):
            dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = _compiled(dialect)
        self._compiled[dialect.name][which].run(connection, rows)


def _compiled(dialect: Dialect) -> tuple[SqlStatement, SqlStatement]:
    row = insert_into(tasks, dialect).values(
        {name: bindparam(name) for name in TaskRow._fields}
    )
    keep = row.on_conflict_do_update(
        index_elements=["id"], set_={"state": row.excluded.state}, where=_PROVISIONAL
    )
    drop = delete(tasks).where(tasks.c.message_id == bindparam("of_message"), _PROVISIONAL)
    return SqlStatement.of(keep, dialect), SqlStatement.of(drop, dialect)
