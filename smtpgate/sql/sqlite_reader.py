"""Short questions to a SQLite file, in a thread of their own.

A query of an engine takes seven changes of threads, and a millisecond of CPU or two. A query
of a connection that does nothing else takes a twentieth of that.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from smtpgate.sql.engines import file_of, file_uri

T = TypeVar("T")
_NUMBERS: Final = count()


class SqliteReader:
    """One connection to a file, in one thread. A file that takes its place is noticed."""

    def __init__(self, path: Path, purpose: str, busy_timeout_s: float = 0) -> None:
        self._path = path
        self._name = f"smtpgate-{purpose}"
        self._busy_timeout_s = busy_timeout_s
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self.number = 0
        """Identifies the connection among all of this process."""

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The answer of work in the thread, which may ask but begin no transaction.

        Raises sqlite3.Error.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, self._name)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, work)

    async def close(self) -> None:
        """Close the connection and end the thread; a later question begins both again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown(wait=False)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            file = file_of(self._path)
            if file is None or file != self._file:
                self._close()
            if self._connection is None:
                self._connection = self._open()
                self._file = file
            return work(self._connection)
        except sqlite3.Error:
            self._close()
            raise

    def _open(self) -> sqlite3.Connection:
        self.number = next(_NUMBERS)
        uri, timeout = file_uri(self._path, "rw"), self._busy_timeout_s
        return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
