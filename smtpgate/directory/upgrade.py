"""The revision of the directory's tables, and its upgrade."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from smtpgate.directory.schema import HEAD, OLDEST, metadata
from smtpgate.sql import upgrade as tables
from smtpgate.sql.database import Database
from smtpgate.sql.upgrade import Schema

SCHEMA: Final = Schema(
    "directory", metadata, HEAD, OLDEST, "smtpgate.directory.migrations.versions"
)


async def revision_of(database: Database) -> str | None:
    """The revision of the tables, or ``None`` when there are none.

    Raises DirectoryUnavailableError.
    """
    return await tables.revision_of(database, SCHEMA)


async def upgrade(database: Database) -> tuple[str | None, str]:
    """Bring the tables to this version's revision: from nothing, or from an earlier one.

    The revisions before and after. Raises SchemaError, DirectoryUnavailableError, or OSError
    when the file cannot be made.
    """
    return await tables.upgrade(database, SCHEMA)


async def must_be_current(database: Database, connection: AsyncConnection) -> None:
    """Raises SchemaError unless the tables are those of this version."""
    await tables.must_be_current(database, connection, SCHEMA)
