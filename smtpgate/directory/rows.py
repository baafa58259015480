"""Rows of the directory, inserted, updated and deleted together with their audit entries."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    select,
    update,
)

from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    Facts,
    Note,
    RefusedChangeError,
)

# The values of the columns that select a row.
Key = Mapping[str, object]


class AuditedRow(Protocol):
    """A dataclass whose fields are columns of a table."""

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""

    def facts(self) -> Facts:
        """The facts for audit entries, without secrets."""


R = TypeVar("R", bound=AuditedRow)


def columns_of(table: Table, row: type[Any]) -> tuple[ColumnElement[Any], ...]:
    """The columns of a table that a dataclass has as fields."""
    return tuple(table.c[field.name] for field in fields(row))


def selects(table: Table, key: Key) -> ColumnElement[bool]:
    """The condition that selects the rows with that key."""
    return and_(*(table.c[column] == value for column, value in key.items()))


def selects_each(table: Table, columns: Sequence[str]) -> ColumnElement[bool]:
    """The same for a statement that is executed for many keys, see :func:`parameters`."""
    return and_(*(table.c[column] == bindparam(f"its_{column}") for column in columns))


def parameters(key: Key, columns: Sequence[str]) -> dict[str, object]:
    """The parameters of :func:`selects_each` for one key."""
    return {f"its_{column}": key[column] for column in columns}


@contextmanager
def refusing(what: object) -> Iterator[None]:
    """Turn a ValueError of a check into a RefusedChangeError that begins with ``what``."""
    try:
        yield
    except ValueError as error:
        raise RefusedChangeError(f"{what}: {error}") from None


async def must_be_new(change: Change, table: Table, key: Key, what: object) -> None:
    """Raise ConflictError when the table has a row with that key."""
    found = await change.connection.execute(select(exists().where(selects(table, key))))
    if found.scalar():
        raise ConflictError(f"{what} already exists")


async def insert_rows(
    change: Change,
    table: Table,
    values: Sequence[Mapping[str, Any]],
    rows: Sequence[AuditedRow],
    *,
    action: str = "create",
) -> None:
    """Insert ``values``, which are the columns of ``rows`` and those that rows do not show."""
    await change.connection.execute(insert(table), values)
    await change.note_all(
        [Note(action=action, subject=row.subject, after=row.facts()) for row in rows]
    )


async def update_row(
    change: Change,
    table: Table,
    key: Key,
    before: R,
    after: R,
    *,
    action: str,
    only_differences: bool = False,
) -> R:
    """Update the columns that differ. A change of facts gets an audit entry.

    ``only_differences`` leaves the facts that stay the same out of the audit entry.
    """
    changes = {
        column.name: getattr(after, column.name)
        for column in table.c
        if getattr(after, column.name, None) != getattr(before, column.name, None)
    }
    if not changes:
        return before
    await change.connection.execute(update(table).where(selects(table, key)).values(changes))
    old, new = before.facts(), after.facts()
    if old != new:
        if only_differences:
            differing = [name for name in new if old[name] != new[name]]
            old, new = ({name: one[name] for name in differing} for one in (old, new))
        await change.note(action, before.subject, before=old, after=new)
    return after


async def delete_rows(
    change: Change,
    table: Table,
    keys: Sequence[Key],
    rows: Sequence[AuditedRow],
    *,
    action: str = "delete",
) -> None:
    """Delete rows that are known to be there, by their keys."""
    await delete_by_key(change, table, keys)
    await change.note_all(
        [Note(action=action, subject=row.subject, before=row.facts()) for row in rows]
    )


async def delete_by_key(change: Change, table: Table, keys: Sequence[Key]) -> None:
    """Delete the rows with those keys, if there are any, without an audit entry."""
    if keys:
        columns = tuple(keys[0])
        await change.connection.execute(
            delete(table).where(selects_each(table, columns)),
            [parameters(key, columns) for key in keys],
        )
