"""Transactions of prepared statements with many rows, with little overhead.

An asynchronous connection to SQLite changes threads for each statement. Here a whole
transaction runs in a thread at once, and the driver gets its rows as they are. On PostgreSQL
the same work runs over a usual connection.

There are two kinds of errors. A database that cannot be used now (it is gone, full, locked or
damaged) raises the ``unavailable`` error of the :class:`Database`, and the same work may
succeed later. A database that refuses these rows raises UnfitRowsError, and will always refuse
them.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.sql.base import Executable

from smtpgate.sql import checkpoints, engines, many, transaction
from smtpgate.sql.checkpoints import Checkpointer
from smtpgate.sql.database import Database
from smtpgate.sql.engines import file_of, in_words, prepare_sqlite
from smtpgate.sql.wal import SyncedLog, empty_log, is_in_wal_mode

T = TypeVar("T")
Work = Callable[[Connection], T]
Row = tuple[Any, ...]
Plain = Connection | sqlite3.Connection
"""A connection that takes statements with rows as they are."""

_CACHE_KIB: Final = 8192
_BUSY_IN_TROUBLE_MS: Final = 50
_ERRORS: Final = (SQLAlchemyError, sqlite3.Error, OSError, ValueError, OverflowError)


class UnfitRowsError(Exception):
    """Rows that the database will never take."""


@dataclass(frozen=True, slots=True)
class SqlStatement:
    """A statement compiled for one database; its rows are tuples in the order of ``names``."""

    sql: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, construct: Executable, dialect: Dialect) -> "SqlStatement":
        """The statement for a kind of database."""
        compiled = construct.compile(dialect=dialect)  # type: ignore[attr-defined]
        return cls(str(compiled), tuple(compiled.positiontup or ()))

    def run(self, connection: Plain, rows: Sequence[Row]) -> int:
        """Execute it for every row; the number of changed rows, or -1 when the driver
        does not report it.
        """
        if not rows:
            return 0
        if isinstance(connection, sqlite3.Connection):
            if "VALUES (" in self.sql:
                return many.execute(connection, self.sql, rows)
            return connection.executemany(self.sql, rows).rowcount
        return connection.exec_driver_sql(self.sql, list(rows)).rowcount


class Batches(Protocol):
    """Runs work, one transaction each."""

    async def run(self, work: Work[T]) -> T:
        """Do the work in a transaction. Raises ``unavailable`` or UnfitRowsError."""

    async def close(self) -> None:
        """Close its own connections."""


class ServerBatches:
    """Implements Batches over a server: each transaction on a connection of the pool."""

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


class SqliteBatches:
    """One connection to a SQLite file, and its transactions; for one thread. All of it blocks.

    Rows go to ``sqlite3`` itself: between the driver and a batch there is nothing else.
    After an error no transaction waits for another process for longer than a moment, until one
    succeeds: whatever else the thread does would wait as well.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = database.url.database or ""
        self._engine = create_engine(database.url.set(drivername="sqlite"))
        prepare_sqlite(self._engine)
        self._connection: Connection | None = None
        self._driver: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._log: SyncedLog | None = None  # of a file in WAL mode
        self._unsynced: SyncedLog | None = None  # the log that has what is promised
        self._is_log_sound = True  # no sync of it has failed
        self._is_in_trouble = False
        self._checkpoints = Checkpointer(Path(self._name))

    def write(self, work: Callable[[sqlite3.Connection], T], *, promised: bool) -> T:
        """Do the work in a transaction.

        If it is ``promised``, it survives a power cut once ``sync`` has returned. Raises
        ``unavailable`` or UnfitRowsError.
        """
        try:
            driver = self._opened()
            transaction.begin_to_write(driver)
            try:
                done = work(driver)
                driver.commit()
            except BaseException:
                driver.rollback()
                raise
        except _ERRORS as error:
            raise self._failed(error) from error
        if promised and self._unsynced is None:
            self._unsynced = self._log
        self._note_success()
        self._checkpoints.note_commit()
        return done

    def sync(self) -> None:
        """Have all that was promised survive a power cut. Raises ``unavailable``."""
        log, self._unsynced = self._unsynced, None
        if log is not None:
            try:
                if log is not self._log:
                    raise OSError("the log was closed before it was synced")
                self._sync()
            except _ERRORS as error:
                raise self._failed(error) from error
            self._note_success()

    def run(self, work: Work[T]) -> T:
        """Do the work in a transaction of SQLAlchemy; raises the same errors."""
        try:
            _ = self._opened()
            assert self._connection is not None  # noqa: S101 - for mypy; it is opened
            with self._connection.begin():
                done = work(self._connection)
            self._sync()
        except _ERRORS as error:
            raise self._failed(error) from error
        self._note_success()
        return done

    def close(self) -> None:
        """Close the file."""
        self._checkpoints.close()
        self._disconnect()

    def _failed(self, error: Exception) -> Exception:
        """The error for the caller; the file is opened again unless the rows cause it."""
        if _is_about_rows(error):
            return UnfitRowsError(in_words(error))
        self._is_in_trouble = True
        self._disconnect()
        return self._database.unavailable(error)

    def _note_success(self) -> None:
        if self._is_in_trouble and self._driver is not None:
            self._is_in_trouble = False
            self._driver.execute(f"PRAGMA busy_timeout = {int(engines.BUSY_S * 1000)}")

    def _sync(self) -> None:
        if self._log is not None:
            try:
                self._log.sync()
            except OSError:
                self._is_log_sound = False
                raise

    def _opened(self) -> sqlite3.Connection:
        """The driver's connection, a new one when the path now leads to another file."""
        if self._driver is not None and self._file == file_of(self._name):
            return self._driver
        self._disconnect()
        self._database.create_file()
        self._file = file_of(self._name)
        self._connection = _connect(self._engine)
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - for mypy
        if self._is_in_trouble:
            driver.execute(f"PRAGMA busy_timeout = {_BUSY_IN_TROUBLE_MS}")
        if is_in_wal_mode(driver):
            # Commits do not sync; this does after those that must be. To switch between both
            # takes more steps of the driver than a sync.
            driver.execute("PRAGMA synchronous = NORMAL")
            self._log = SyncedLog(driver)
            if not self._is_log_sound:
                empty_log(driver)
                self._is_log_sound = True
        self._driver = driver
        return driver

    def _disconnect(self) -> None:
        connection, self._connection, self._driver = self._connection, None, None
        log, self._log = self._log, None
        if log is not None:
            log.close()
        try:
            if connection is not None:
                connection.invalidate()
                connection.close()
            self._engine.dispose()
        except (SQLAlchemyError, sqlite3.Error, OSError):
            return  # it is not used any more in any case


def _connect(engine: Engine) -> Connection:
    connection = engine.connect().execution_options(is_change=True)
    try:
        cursor = connection.connection.cursor()
        cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        cursor.execute(f"PRAGMA wal_autocheckpoint={checkpoints.PAGES}")
        cursor.execute("PRAGMA temp_store=MEMORY")  # else pages to undo go to files of /var/tmp
        cursor.close()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_about_rows(error: BaseException) -> bool:
    """True if the rows cause the error, not the database."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    if isinstance(error, sqlite3.Error):
        return isinstance(error, sqlite3.DataError | sqlite3.IntegrityError)
    return isinstance(error, StatementError | ValueError | OverflowError)
