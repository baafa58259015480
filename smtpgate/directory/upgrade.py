"""The schema's life: made by the first start, upgraded by revisions, never run backwards."""

import importlib
from typing import Final

from sqlalchemy import Connection, inspect, text

from smtpgate.directory.schema import EARLIER, HEAD
from smtpgate.sql.database import Database

__all__ = ["SchemaError", "is_upgradable", "must_be_current", "revision_of", "upgrade"]

_VERSION_TABLE: Final = "alembic_version"  # alembic's own


class SchemaError(Exception):
    """A directory whose tables are not those of this version; the text says what to do."""


async def revision_of(database: Database) -> str | None:
    """The revision of the tables, or ``None`` when there are none.

    Raises DirectoryUnavailableError.
    """
    async with database.reading() as connection:
        return await connection.run_sync(_revision)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608 - a constant
    revision: str | None = found.scalar()
    return revision


async def upgrade(database: Database) -> tuple[str | None, str]:
    """Bring the tables to this version's revision: from nothing, or from any earlier one.

    All of it in one transaction. The revisions before and after. Raises SchemaError,
    DirectoryUnavailableError, or OSError when the file cannot be made.
    """
    database.create_file()
    async with database.changing() as connection:
        before = await connection.run_sync(_revision)
        if before != HEAD:
            try:
                await connection.run_sync(_migrate)
            except _UnknownRevisionError:
                raise SchemaError(_later(database, before)) from None
    return before, HEAD


async def is_upgradable(database: Database) -> bool:
    """Whether the tables are of an earlier revision, or none: the next start would see to it.

    Only SQLite's are upgraded by a start. Raises DirectoryUnavailableError.
    """
    return database.is_sqlite and await revision_of(database) in (None, *EARLIER)


async def must_be_current(database: Database) -> None:
    """Raises SchemaError unless the tables are those of this version."""
    revision = await revision_of(database)
    if revision is None:
        raise SchemaError(
            f"{database.name}: holds no directory; `smtpgate directory upgrade' makes one"
        )
    if revision != HEAD:
        raise SchemaError(
            f"{database.name}: is at revision {revision}, this version needs {HEAD}; "
            f"`smtpgate directory upgrade' upgrades an older one"
        )


def _later(database: Database, revision: str | None) -> str:
    return (
        f"{database.name}: was last used by a later version of smtpgate (its revision "
        f"{revision} is not known here); install that version again, or restore a backup that "
        f"was made before"
    )


class _UnknownRevisionError(Exception):
    """A revision that is not among ours."""


def _migrate(connection: Connection) -> None:
    # Imported when needed: alembic takes a tenth of a second, and most starts change nothing.
    migrations = importlib.import_module("smtpgate.directory.migrations")
    try:
        migrations.migrate(connection)
    except migrations.UnknownRevisionError:
        raise _UnknownRevisionError from None
