"""The journal's database with the key of its terms, for writing and searching."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import insert, select

from smtpgate.journal.schema import HEAD, OLDEST, meta, metadata
from smtpgate.journal.terms import TermKey, TermKeyError, read_key, read_or_make_key
from smtpgate.sql import upgrade as tables
from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.database import Database
from smtpgate.sql.upgrade import Schema

SCHEMA: Final = Schema(
    "journal", metadata, HEAD, OLDEST, "smtpgate.journal.migrations.versions"
)
_KEY_CHECK: Final = "term_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStore:
    """One journal. ``key_file`` is made with the tables, and belongs to them."""

    database: Database
    key_file: Path

    async def open(self, *, may_upgrade: bool, new: TermKey | None = None) -> TermKey:
        """Make sure of the tables and of the key; nothing is overwritten.

        ``may_upgrade`` makes or upgrades the tables. A journal that is begun here has the key
        of the file, and where there is none, ``new`` or any. Raises SchemaError, TermKeyError,
        JournalUnavailableError or OSError.
        """
        opened = tables.current_tables(self.database, SCHEMA, may_upgrade=may_upgrade)
        async with opened as connection:
            wanted = await _key_check(connection)
        if wanted is None:
            key = self.key(new)
            async with self.database.changing() as connection:
                wanted = await _key_check(connection)
                if wanted is None:
                    wanted = key.check
                    row = insert(meta).values(name=_KEY_CHECK, value=wanted)
                    await connection.execute(row)
        else:
            key = self._kept_key()
        self._must_be_its_own(key, wanted)
        return key

    def _must_be_its_own(self, key: TermKey, check: str | None) -> None:
        if key.check != check:
            raise TermKeyError(
                f"{self.key_file}: is not the key that the journal in {self.database.name} was "
                f"begun with; copy {self.key_file.name} from a host that uses this journal"
            )

    def key(self, new: TermKey | None = None) -> TermKey:
        """The key; made when there is none, and is ``new`` or any then.

        Raises TermKeyError or OSError.
        """
        return read_or_make_key(self.key_file, new)

    def _kept_key(self) -> TermKey:
        try:
            return read_key(self.key_file)
        except FileNotFoundError:
            raise TermKeyError(
                f"{self.key_file}: is missing, and only with that key the rows of the journal "
                f"in {self.database.name} can be found; copy {self.key_file.name} from a host "
                f"that uses this journal, or put it back from a backup"
            ) from None

    async def look(self) -> TermKey:
        """Check the tables and the key, and change nothing.

        Raises SchemaError, TermKeyError, JournalUnavailableError or OSError.
        """
        async with self.reading() as connection:
            await tables.must_be_current(self.database, connection, SCHEMA)
            wanted = await _key_check(connection)
        key = self._kept_key()
        self._must_be_its_own(key, wanted)
        return key

    async def read_some(self) -> None:
        """Read a row of each table, to find most kinds of damage.

        Raises JournalUnavailableError.
        """
        async with self.reading() as connection:
            for table in metadata.sorted_tables:
                await connection.execute(select(table).limit(1))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose queries all see one moment. Raises JournalUnavailableError."""
        async with self.database.reading() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.database.close()


async def _key_check(connection: AsyncConnection) -> str | None:
    found = await connection.execute(select(meta.c.value).where(meta.c.name == _KEY_CHECK))
    value: str | None = found.scalar()
    return value
