"""The version of a SQLite file: whether something was committed, without a query.

A query of an engine takes seven changes of threads, and two milliseconds of CPU. A pragma of a
connection that does nothing else takes a twentieth of that.
"""

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from smtpgate.sql.engines import file_of, file_uri

_NUMBERS: Final = count()


class SqliteVersion(NamedTuple):
    """A version of a file, as one connection sees it.

    While it stays equal, no other connection has committed anything
    (https://www.sqlite.org/pragma.html#pragma_data_version). ``connection`` is the number of
    that connection: what two of them see cannot be compared.
    """

    connection: int
    version: int


class SqliteVersions:
    """Reads the version of a file in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._number = 0

    async def read(self) -> SqliteVersion | None:
        """The version now; ``None`` if it cannot be read."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "smtpgate-database-version")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read)

    async def close(self) -> None:
        """Close the connection and end the thread; a later reading begins both again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown(wait=False)

    def _read(self) -> SqliteVersion | None:
        try:
            file = file_of(self._path)
            if file is None or file != self._file:
                self._close()
            if self._connection is None:
                self._connection = self._open()
                self._file = file
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            self._close()
            return None
        return SqliteVersion(self._number, version)

    def _open(self) -> sqlite3.Connection:
        self._number = next(_NUMBERS)
        # It waits for no lock: a query does, and reports it.
        return sqlite3.connect(file_uri(self._path, "rw"), uri=True, timeout=0)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
