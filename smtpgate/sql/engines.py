"""Engines: how connections to SQLite and PostgreSQL are opened, and their errors in words.

No wait is without an end: for a connection, for another's change, for an answer.
"""

import asyncio
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event, exc
from sqlalchemy.engine import URL
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from smtpgate.sql.adapters import register_adapters
from smtpgate.sql.asynchronous import AsyncEngine, create_async_engine
from smtpgate.sql.wal import enter_wal_mode

BUSY_S: Final = 5  # for a change by another process
_CONNECT_S: Final = 5
_COMMAND_S: Final = 15
_POOL: Final = {"pool_size": 4, "max_overflow": 4, "pool_timeout": 5}
_SETTINGS: Final = (
    "PRAGMA synchronous=FULL",  # a change that was acknowledged survives a power cut
    "PRAGMA foreign_keys=ON",
)
_BUSY: Final = f"is busy with another change, for more than {BUSY_S} s"
# Texts of drivers that do not help an operator.
_WORDS: Final = {
    "database is locked": _BUSY,
    "canceling statement due to lock timeout": _BUSY,
    "unable to open database file": (
        "cannot be opened; is the file there, and may this user write it and its folder?"
    ),
    "attempt to write a readonly database": (
        "cannot be written; may this user write the file and its folder?"
    ),
    "database disk image is malformed": "is damaged; restore a backup",
    "unexpected connection_lost() call": "the connection was lost",
    "connection was closed in the middle of operation": "the connection was lost",
    "file is not a database": "is no SQLite database, or is damaged; restore a backup",
}


class DatabaseUrlError(ValueError):
    """A text that names no database that anything can be kept in."""


def in_words(error: BaseException) -> str:
    """The driver's text, without the statement and its values."""
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        error = error.orig
        # Of asyncpg's errors SQLAlchemy makes its own, with the class of theirs in the text.
        error = error.__cause__ or error
    if isinstance(error, exc.TimeoutError):
        return "all connections to it are in use"
    words = str(error).partition("\n")[0].strip()
    if not words:
        return "gives no answer" if isinstance(error, TimeoutError) else type(error).__name__
    return _WORDS.get(words, words)


def driver_errors(engine: AsyncEngine) -> tuple[type[Exception], ...]:
    """Errors that the driver raises where SQLAlchemy does not translate them."""
    driver: Any = getattr(engine.dialect.loaded_dbapi, "asyncpg", None)
    return () if driver is None else (driver.PostgresError, driver.InterfaceError)


class DatabaseThreads:
    """The threads of an asynchronous engine: each connection to SQLite has its own.

    The driver lets go of a thread without waiting for its end when a file cannot be opened. One
    that outlived the event loop would end with an error that cannot be caught.
    """

    def __init__(self) -> None:
        self._begun = WeakSet[threading.Thread]()

    def open(self, *words: Any, **named: Any) -> sqlite3.Connection:  # noqa: ANN401 - the driver's
        """A connection; called in its thread."""
        self._begun.add(threading.current_thread())
        return sqlite3.Connection(*words, **named)

    async def end(self, timeout_s: float) -> None:
        """Wait for released ones, each for a limited time."""
        for thread in tuple(self._begun):
            if thread.is_alive():
                await asyncio.to_thread(thread.join, timeout_s)


def sqlite_engine(url: URL, threads: DatabaseThreads) -> AsyncEngine:
    """An engine for a file that is there already."""
    engine = create_async_engine(url, **_POOL, connect_args={"factory": threads.open})
    prepare_sqlite(engine.sync_engine)
    return engine


def file_uri(path: Path, mode: Literal["ro", "rw"]) -> str:
    """The URI by which SQLite opens only a file that exists (https://www.sqlite.org/uri.html)."""
    return f"file:{quote(str(path))}?mode={mode}"


def prepare_sqlite(engine: Engine) -> None:
    """Have every connection of an engine in WAL mode, with explicit transactions.

    The file must be there, and is the one that its path names: a file that was put in its place
    is noticed when a connection is next used.
    """
    path = Path(engine.url.database or "")
    register_adapters()

    def connect(_dialect: object, _record: object, words: list[Any], named: Any) -> None:  # noqa: ANN401 - the driver's
        # Where there is nothing to open, no thread is begun that would outlive the attempt.
        if not os.access(path, os.R_OK):
            raise sqlite3.OperationalError("unable to open database file")
        # Without this SQLite makes an empty file, readable by all users, where there is none.
        words[0], named["uri"] = file_uri(path, "rw"), True

    def connected(connection: Any, record: Any) -> None:  # noqa: ANN401 - the driver's
        record.info["file"] = file_of(path)
        _set_up_sqlite(connection)

    def check(_connection: object, record: Any, _proxy: object) -> None:  # noqa: ANN401 - SQLAlchemy's
        if record.info.get("file") != file_of(path):
            raise exc.InvalidatePoolError

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", check)
    event.listen(engine, "begin", _begin_sqlite)


def file_of(path: Path | str) -> tuple[int, int] | None:
    """Identifies the file that a path leads to now; ``None`` when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set_up_sqlite(connection: Any) -> None:  # noqa: ANN401 - the driver's
    # The driver shall begin no transactions by itself: reads and changes begin differently.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        for setting in _SETTINGS:
            cursor.execute(setting)
    finally:
        cursor.close()
    _ = enter_wal_mode(connection, busy_timeout_s=BUSY_S, sleep=_sleep)


def _sleep(seconds: float) -> None:
    """Sleep; within an asynchronous engine, let the event loop go on."""
    if in_greenlet():
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def _begin_sqlite(connection: Connection) -> None:
    is_change = connection.get_execution_options().get("is_change")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_change else "BEGIN")


# The name of our connections in pg_stat_activity.
_APPLICATION: Final = "smtpgate"


def postgresql_engine(url: URL, pool: type[Pool] = AsyncAdaptedQueuePool) -> AsyncEngine:
    """An engine for a server. Raises DatabaseUrlError when its driver is not installed."""
    sizes = {} if pool is NullPool else _POOL
    try:
        return create_async_engine(
            url,
            poolclass=pool,
            pool_pre_ping=True,  # a server that was restarted is met again without an error
            connect_args={
                "timeout": _CONNECT_S,
                "command_timeout": _COMMAND_S,
                "server_settings": {"application_name": _APPLICATION},
            },
            **sizes,
        )
    except ModuleNotFoundError:
        cure = f"{sys.prefix}/bin/pip install '.[postgres]', in smtpgate's source folder"
        raise DatabaseUrlError(f"PostgreSQL needs asyncpg: {cure}") from None
