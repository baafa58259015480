"""Transactions made of prepared statements and many rows, as cheap as the database has them.

An asynchronous connection to SQLite goes to its thread and back for each statement. Here a
whole transaction goes there once, and its rows are given to the driver as they are. The same
work is done on PostgreSQL, over a connection as all others are.

What a database refuses is of two kinds. When it cannot be used now (it is gone, full, locked,
damaged), that is the ``unavailable`` error of the :class:`Database`, and the same work may pass
later. When it does not take these very rows, that is UnfitRowsError, and it never will.
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
class Statement:
    """A statement compiled for one database; its rows are tuples in the order of ``names``."""

    sql: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, construct: Executable, connection: Connection) -> "Statement":
        """The statement for the database of that connection."""
        compiled = construct.compile(dialect=connection.dialect)  # type: ignore[attr-defined]
        return cls(str(compiled), tuple(compiled.positiontup or ()))

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Execute it for every row; how many it changed, or -1 when the driver does not say."""
        if not rows:
            return 0
        return connection.exec_driver_sql(self.sql, list(rows)).rowcount


class Batches(Protocol):
    """Where work is done, one transaction each."""

    async def run(self, work: Work[T]) -> T:
        """Do the work in a transaction. Raises ``unavailable`` or UnfitRowsError."""

    async def close(self) -> None:
        """Close the connections that are its own."""


def batches_of(database: Database) -> Batches:
    """The way to do work in that database."""
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
        """Close the file, after the work that waits for it."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._let_go)
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
            self._let_go()
            raise self._database.unavailable(error) from error

    def _opened(self) -> Connection:
        """The connection; another when the path leads to another file than it did."""
        if self._connection is not None and self._file == file_of(self._path):
            return self._connection
        self._let_go()
        self._database.create_file()
        self._file = file_of(self._path)
        self._connection = _connect(self._engine)
        return self._connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.invalidate()
                connection.close()
            self._engine.dispose()
        except (SQLAlchemyError, OSError):
            return  # it is let go of all the same


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
    """Whether the database is well and the rows are not."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, StatementError | ValueError | OverflowError)
