"""Tables are made by the first start, and upgraded by revisions, never downgraded.

New tables are made as the code has them, at the newest revision; a revision changes the tables
that an earlier release made. Each owner of tables has its own revisions and version table, so
that several owners can share a database and be upgraded separately.
"""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData, inspect, text

from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.database import Database


class SchemaError(Exception):
    """Tables that are not those of this version; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The ``tables`` of one ``owner``: their revision, and the package of all revisions.

    Revisions are numbers of four digits, so that the later of two has the larger number.
    ``oldest`` is the first that can be upgraded. The owner is also the name of the command
    that upgrades the tables by hand.
    """

    owner: str
    tables: MetaData
    head: str
    oldest: str
    revisions: str

    @property
    def version_table(self) -> str:
        """The table with the revision of the tables."""
        return f"{self.owner}_version"


async def revision_of(database: Database, schema: Schema) -> str | None:
    """The revision of the tables, or ``None`` when there are none.

    Raises what the database raises when it cannot be asked.
    """
    async with database.reading() as connection:
        return await connection.run_sync(_revision, schema)


def _revision(connection: Connection, schema: Schema) -> str | None:
    if not connection.dialect.has_table(connection, schema.version_table):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {schema.version_table}"))  # noqa: S608 - a constant
    revision: str | None = found.scalar()
    return revision


async def upgrade(database: Database, schema: Schema) -> tuple[str | None, str]:
    """Bring the tables to this version's revision: from nothing, or from an earlier one.

    One transaction does all of it; where there is nothing to do, none waits for other changes.
    The revisions before and after. Raises SchemaError, OSError when the file cannot be made, or
    what the database raises when it cannot be asked.
    """
    database.create_file()
    before = await revision_of(database, schema)
    if before == schema.head:
        return before, before
    async with database.changing() as connection:
        # Another process may have been faster.
        before = await connection.run_sync(_revision, schema)
        if before is not None and before < schema.oldest:
            raise SchemaError(_too_old(database, schema, before))
        if before != schema.head:
            await connection.run_sync(_bring_to_head, schema, before, database)
    return before, schema.head


@asynccontextmanager
async def current_tables(
    database: Database, schema: Schema, *, may_upgrade: bool
) -> AsyncIterator[AsyncConnection]:
    """A connection that reads tables of this version; ``may_upgrade`` makes or upgrades them.

    Raises as ``upgrade`` does.
    """
    if may_upgrade:
        database.create_file()
        async with database.reading() as connection:
            if await connection.run_sync(_revision, schema) == schema.head:
                yield connection
                return
        await upgrade(database, schema)
    async with database.reading() as connection:
        await must_be_current(database, connection, schema)
        yield connection


async def is_upgradable(database: Database, schema: Schema) -> bool:
    """True if the next start makes or upgrades the tables.

    A start upgrades only SQLite's tables. Raises what the database raises when it cannot be
    asked.
    """
    if not database.is_sqlite:
        return False
    revision = await revision_of(database, schema)
    return revision is None or schema.oldest <= revision < schema.head


async def must_be_current(
    database: Database, connection: AsyncConnection, schema: Schema
) -> None:
    """Raises SchemaError unless the tables are those of this version."""
    revision = await connection.run_sync(_revision, schema)
    if revision is None:
        owner = schema.owner
        raise SchemaError(
            f"{database.name}: holds no {owner}; `smtpgate {owner} upgrade' makes one"
        )
    if revision > schema.head:
        raise SchemaError(_later(database, revision))
    if revision < schema.oldest:
        raise SchemaError(_too_old(database, schema, revision))
    if revision != schema.head:
        raise SchemaError(
            f"{database.name}: is at revision {revision}, this version needs {schema.head}; "
            f"`smtpgate {schema.owner} upgrade' upgrades an older one"
        )


def _later(database: Database, revision: str | None) -> str:
    return (
        f"{database.name}: was last used by a later version of smtpgate (its revision "
        f"{revision} is not known here); install that version again, or restore a backup that "
        f"was made before"
    )


def _too_old(database: Database, schema: Schema, revision: str) -> str:
    return (
        f"{database.name}: is at revision {revision}, and this version upgrades from revision "
        f"{schema.oldest} on; first run `smtpgate {schema.owner} upgrade' of an earlier "
        f"version of smtpgate that upgrades to revision {schema.oldest}"
    )


def _bring_to_head(
    connection: Connection, schema: Schema, before: str | None, database: Database
) -> None:
    # Imported when needed: alembic takes a tenth of a second, and most starts change nothing.
    migrations = importlib.import_module("smtpgate.sql.migrations")
    if before is None:
        _make(connection, schema, database)
    bring = migrations.mark_as_newest if before is None else migrations.migrate
    try:
        bring(connection, schema.revisions, schema.version_table)
    except migrations.UnknownRevisionError:
        raise SchemaError(_later(database, before)) from None


def _make(connection: Connection, schema: Schema, database: Database) -> None:
    """Make all tables. Raises SchemaError if one of such a name is there already."""
    known = inspect(connection)
    if others := sorted(name for name in schema.tables.tables if known.has_table(name)):
        raise SchemaError(
            f"{database.name}: has tables of another program: {', '.join(others)}; use another "
            f"database"
        )
    schema.tables.create_all(connection, checkfirst=False)
