"""A directory copied whole from one database to another: from SQLite to PostgreSQL, or back.

Secrets are copied as they are, sealed, so the other database belongs to the same master keys.
Entries of the audit log keep their numbers.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Table, func, insert, select, text

from smtpgate.directory.audit import last_entry
from smtpgate.directory.change import ConflictError, RefusedChangeError
from smtpgate.directory.schema import audit_log, metadata
from smtpgate.directory.store import SCHEMA, DirectoryStore
from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.database import Database
from smtpgate.sql.upgrade import upgrade

_ROWS: Final = 500
_NEXT_NUMBER: Final = text("SELECT setval(pg_get_serial_sequence('audit_log', 'seq'), :last)")


async def copy(
    source: DirectoryStore, target: Database, report: Callable[[str, int], None]
) -> int:
    """Copy every row into a database that holds no directory yet; all of them, or none.

    The number of the last entry of the audit log that is in the copy. ``report`` is called with
    each table and its number of rows. Raises RefusedChangeError when something is
    there already, ConflictError when the source was changed meanwhile, SchemaError,
    DirectoryUnavailableError or OSError.
    """
    _ = await upgrade(target, SCHEMA)
    async with source.database.reading() as reader, target.changing() as writer:
        last = await last_entry(reader)
        for table in metadata.sorted_tables:
            await _must_be_empty(writer, table, target.name)
            report(table.name, await _copy_table(reader, writer, table))
        if last and not target.is_sqlite:
            await writer.execute(_NEXT_NUMBER, {"last": last})
        async with source.database.reading() as again:
            if await last_entry(again) != last:
                raise ConflictError(
                    f"{source.database.name} was changed while it was copied; nothing was "
                    f"copied, so copy again"
                )
    return last


async def _must_be_empty(writer: AsyncConnection, table: Table, name: str) -> None:
    if (await writer.execute(select(func.count()).select_from(table))).scalar():
        raise RefusedChangeError(
            f"{name}: holds a directory already (there are rows in {table.name}); copy into a "
            f"new database"
        )


async def _copy_table(reader: AsyncConnection, writer: AsyncConnection, table: Table) -> int:
    """Copy the rows of a table, some at a time; how many there were."""
    query = select(table)
    if table is audit_log:
        query = query.order_by(audit_log.c.seq)
    number = 0
    async with reader.stream(query.execution_options(yield_per=_ROWS)) as rows:
        async for some in rows.partitions(_ROWS):
            await writer.execute(insert(table), [dict(row._mapping) for row in some])
            number += len(some)
    return number
