"""The version of a SQLite file: whether something was committed, without a query."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from smtpgate.sql.sqlite_reader import SqliteReader


class SqliteVersion(NamedTuple):
    """A version of a file, as one connection sees it.

    While it stays equal, no other connection has committed anything
    (https://www.sqlite.org/pragma.html#pragma_data_version). ``connection`` is the number of
    that connection: what two of them see cannot be compared.
    """

    connection: int
    version: int


class SqliteVersions:
    """Reads the version of a file. It waits for no lock: a query does, and reports it."""

    def __init__(self, path: Path) -> None:
        self._reader = SqliteReader(path, "database-version")

    async def read(self) -> SqliteVersion | None:
        """The version now; ``None`` if it cannot be read."""
        try:
            return await self._reader.read(self._version)
        except sqlite3.Error:
            return None

    async def close(self) -> None:
        """Close the connection and end the thread; a later reading begins both again."""
        await self._reader.close()

    def _version(self, connection: sqlite3.Connection) -> SqliteVersion:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        return SqliteVersion(self._reader.number, version)
