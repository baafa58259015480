"""Transactions of prepared statements with many rows, with little overhead.

An asynchronous connection to SQLite changes threads for each statement. Here a whole
transaction runs in the thread at once, and the driver gets its rows as they are. On PostgreSQL
the same work runs over a usual connection.

There are two kinds of errors. A database that cannot be used now (it is gone, full, locked or
damaged) raises the ``unavailable`` error of the :class:`Database`, and the same work may
succeed later. A database that refuses these rows raises UnfitRowsError, and will always refuse
them.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.sql.base import Executable

from smtpgate.sql.database import Database
from smtpgate.sql.engines import file_of, in_words, prepare_sqlite

T = TypeVar("T")
Work = Callable[[Connection], T]
Row = tuple[Any, ...]

_CACHE_KIB: Final = 8192


class UnfitRowsError(Exception):
    """Rows that the database will never take."""


@dataclass(frozen=True, slots=True)
class SqlStatement:
    """A statement compiled for one database; its rows are tuples in the order of ``names``."""

    sql: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, construct: Executable, connection: Connection) -> "SqlStatement":
        """The statement for the database of that connection."""
        compiled = construct.compile(dialect=connection.dialect)  # type: ignore[attr-defined]
        return cls(str(compiled), tuple(compiled.positiontup or ()))

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Execute it for every row; the number of changed rows, or -1 when the driver
        does not report it.
        """
        if not rows:
            return 0
        return connection.exec_driver_sql(self.sql, list(rows)).rowcount


class Batches(Protocol):
    """Runs work, one transaction each."""

    async def run(self, work: Work[T]) -> T:
        """Do the work in a transaction. Raises ``unavailable`` or UnfitRowsError."""

    async def close(self) -> None:
        """Close its own connections."""


def batches_of(database: Database) -> Batches:
    """The Batches for that database."""
    if database.is_sqlite:
        return _SqliteBatches(database)
    return _ServerBatches(database)


class _ServerBatches:
    """Each transaction on a connection of the pool."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, work: Work[T]) -> T:
        """Do the work in a transaction."""
        async with self._database.writing() as connection:
            try:
                return await connection.run_sync(work)
            except (StatementError, ValueError, OverflowError) as error:
                if not _is_about_rows(error):
                    raise
                raise UnfitRowsError(in_words(error)) from error

    async def close(self) -> None:
        """The pool is the database's."""


class _SqliteBatches:
    """Each transaction in the one thread that has a connection to the file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = Path(database.url.database or "")
        self._thread = ThreadPoolExecutor(1, "smtpgate-journal")
        self._engine = create_engine(database.url.set(drivername="sqlite"))
        prepare_sqlite(self._engine)
        self._connection: Connection | None = None
        self._file: tuple[int, int] | None = None

    async def run(self, work: Work[T]) -> T:
        """Do the work in a transaction."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._transact, work)

    async def close(self) -> None:
        """Close the file, after the work that waits."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    # -- in the thread -------------------------------------------------------------------------

    def _transact(self, work: Work[T]) -> T:
        with self._translated():
            connection = self._opened()
            with connection.begin():
                return work(connection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, ValueError, OverflowError) as error:
            if _is_about_rows(error):
                raise UnfitRowsError(in_words(error)) from error
            self._disconnect()
            raise self._database.unavailable(error) from error

    def _opened(self) -> Connection:
        """The connection, a new one when the path now leads to another file."""
        if self._connection is not None and self._file == file_of(self._path):
            return self._connection
        self._disconnect()
        self._database.create_file()
        self._file = file_of(self._path)
        self._connection = _connect(self._engine)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.invalidate()
                connection.close()
            self._engine.dispose()
        except (SQLAlchemyError, OSError):
            return  # it is not used any more in any case


def _connect(engine: Engine) -> Connection:
    connection = engine.connect().execution_options(is_change=True)
    try:
        cursor = connection.connection.cursor()
        cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        cursor.close()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_about_rows(error: BaseException) -> bool:
    """True if the rows cause the error, not the database."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, StatementError | ValueError | OverflowError)
