"""The directory's database with its master keys: where every question and change begins."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import insert, select, text

from smtpgate.config.toml import FileNotReadableError, read_private
from smtpgate.directory.change import Actor, Change
from smtpgate.directory.schema import HEAD, OLDEST, master_keys, metadata
from smtpgate.directory.sealing import MasterKeyError, MasterKeys
from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.database import Database
from smtpgate.sql.upgrade import Schema, current_tables, must_be_current

SCHEMA: Final = Schema(
    "directory", metadata, HEAD, OLDEST, "smtpgate.directory.migrations.versions"
)
CHANNEL: Final = "smtpgate_directory"
_NOTIFY: Final = text(f"SELECT pg_notify('{CHANNEL}', '')")


def read_master_keys(path: Path, warnings: list[str]) -> MasterKeys:
    """The master keys of a file. Raises MasterKeyError naming the file."""
    try:
        return MasterKeys.parse(read_private(path, warnings).decode())
    except FileNotReadableError as error:
        raise MasterKeyError(f"{error}{_cure(error.__context__)}") from None
    except UnicodeDecodeError:
        raise MasterKeyError(f"{path}: is not UTF-8 text") from None
    except MasterKeyError as error:
        raise MasterKeyError(f"{path}: {error}") from None


def _cure(cause: BaseException | None) -> str:
    """The advice about a master key file that cannot be read."""
    if isinstance(cause, FileNotFoundError):
        return "; `smtpgate init' makes it for a first host, a further host needs a copy"
    if isinstance(cause, PermissionError):
        return "; give the command as root, or as the user that the gate runs as"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryStore:
    """One directory, open for questions and changes."""

    database: Database
    master_keys: MasterKeys
    region: str
    partition: str
    now: Callable[[], datetime]

    async def open(self, *, may_upgrade: bool, registers: bool = True) -> None:
        """Make sure of the tables and of the master keys; nothing is overwritten.

        ``may_upgrade`` makes or upgrades the tables, ``registers`` makes a new master key known
        to other hosts, which need it from then on. Raises SchemaError, MasterKeyError,
        DirectoryUnavailableError or OSError.
        """
        opened = current_tables(self.database, SCHEMA, may_upgrade=may_upgrade)
        async with opened as connection:
            unknown = await self._unknown_master_keys(connection)
        if unknown and registers:
            async with self.database.changing() as connection:
                await self.register(connection)

    async def look(self) -> set[str]:
        """Look at the tables and the master keys, and change nothing.

        The id of the current master key when the database has not seen it yet. Raises
        SchemaError, MasterKeyError or DirectoryUnavailableError.
        """
        async with self.reading() as connection:
            await must_be_current(self.database, connection, SCHEMA)
            return await self._unknown_master_keys(connection)

    async def _unknown_master_keys(self, connection: AsyncConnection) -> set[str]:
        """The current id when the database has not seen it yet. Raises MasterKeyError.

        Other lines of the file are not needed until something is sealed under them.
        """
        found = await connection.execute(select(master_keys.c.id, master_keys.c.check))
        known = {row.id: row.check for row in found}
        for key_id, check in known.items():
            if key_id not in self.master_keys.ids:
                raise MasterKeyError(
                    f"{self.database.name}: holds secrets under master key {key_id}, which is "
                    f"not in the master key file; put it back (nothing was changed)"
                )
            if not self.master_keys.is_same(check):
                raise MasterKeyError(
                    f"{self.database.name}: its secrets are under another master key than the "
                    f"one that the file calls {key_id}; find the right file (nothing was "
                    f"changed)"
                )
        return {self.master_keys.current} - set(known)

    async def register(self, connection: AsyncConnection) -> None:
        """Make the current master key known, unless it is. Raises MasterKeyError."""
        # Another process may have been faster, and with another file.
        for key_id in sorted(await self._unknown_master_keys(connection)):
            await connection.execute(
                insert(master_keys).values(
                    id=key_id,
                    check=self.master_keys.check_text(key_id),
                    created_at=self.now(),
                )
            )

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose queries all see one moment. Raises DirectoryUnavailableError."""
        async with self.database.reading() as connection:
            yield connection

    @asynccontextmanager
    async def changing(self, actor: Actor) -> AsyncIterator[Change]:
        """A change, made whole or, with any exception, not at all.

        Raises DirectoryUnavailableError.
        """
        async with self.database.changing() as connection:
            change = Change(connection, actor, self.now())
            yield change
            if change.steps and not self.database.is_sqlite:
                await connection.execute(_NOTIFY)

    async def close(self) -> None:
        """Close every connection."""
        await self.database.close()
