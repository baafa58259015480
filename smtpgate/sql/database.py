"""The database: SQLite or PostgreSQL behind one surface, reads that see one moment, changes one
at a time.

Changes are serialised in the whole fleet (``BEGIN IMMEDIATE``, an advisory lock): people make
them, so there are few, and the numbers in the audit log then become visible in their order.
Errors of the database are put in words for an operator, as the error that the owner of
the database has for it (``unavailable``).
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.engines import (
    BUSY_S,
    DatabaseThreads,
    DatabaseUrlError,
    driver_errors,
    in_words,
    postgresql_engine,
    sqlite_engine,
)
from smtpgate.sql.lookup import Lookup
from smtpgate.sql.sqlite_reader import SqliteReader
from smtpgate.sql.sqlite_version import SqliteVersion, SqliteVersions

_CLOSE_S: Final = 1
# The number is "smtp"; any number works that no other program locks.
_LOCK: Final = (
    text(f"SET LOCAL lock_timeout = '{BUSY_S}s'"),
    text("SELECT pg_advisory_xact_lock(1936552048)"),
)
_SHOWN_OPTIONS: Final = ("host", "port")


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def parse_url(url: str) -> URL:
    """The database that a URL names, with its asynchronous driver. Raises DatabaseUrlError.

    Says nothing of the URL itself, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError("is no database URL") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise DatabaseUrlError("names no file: sqlite:////path/of/the/file")
        if parsed.query:
            raise DatabaseUrlError("holds options, and a file takes none (write `?' as %3F)")
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend == "postgresql":
        if not parsed.database:
            raise DatabaseUrlError("names no database: postgresql://user@host/database")
        return parsed.set(drivername="postgresql+asyncpg")
    raise DatabaseUrlError("must begin with sqlite:/// or postgresql://")


class Listening:
    """A connection that receives notifications of commits; SQLite has none."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Stop the wait: no more notifications come."""
        self._ended.set()

    async def ended(self) -> None:
        """Wait until no more notifications come; for SQLite, for ever."""
        await self._ended.wait()


class Database:
    """One database with its connections."""

    def __init__(self, url: URL, unavailable: type[Exception]) -> None:
        self.url = url
        self._unavailable = unavailable
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._threads = DatabaseThreads()
        self._engine = (
            sqlite_engine(url, self._threads) if self.is_sqlite else postgresql_engine(url)
        )
        # A connection that listens must not go back to those that others use.
        self._listening = self._engine if self.is_sqlite else postgresql_engine(url, NullPool)
        self._errors: tuple[type[Exception], ...] = (
            SQLAlchemyError,
            OSError,
            TimeoutError,
            *driver_errors(self._engine),
            sqlite3.Error,
        )
        self._versions = SqliteVersions(self.path) if self.path is not None else None
        self._reader = None if self.path is None else SqliteReader(self.path, "lookup", BUSY_S)
        reading, changing = self._ways()
        self._reading = self._engine.execution_options(**reading)
        self._changing = self._engine.execution_options(**changing)
        # A single query needs no transaction around it.
        self._looking_up = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        # One change of this process at a time: those that wait shall hold no connection.
        self._turn = asyncio.Lock()
        self._connections: WeakSet[Any] = WeakSet()
        event.listen(self._engine.sync_engine, "connect", self._note_connection)

    def _ways(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Set how transactions begin that read, and that write."""
        if self.is_sqlite:
            return {}, {"is_change": True}
        # A change sees what was committed while it waited for the lock.
        return {"isolation_level": "REPEATABLE READ"}, {"isolation_level": "READ COMMITTED"}

    def _note_connection(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
        self._connections.add(connection.driver_connection)

    @property
    def path(self) -> Path | None:
        """The file, when it is SQLite."""
        return Path(self.url.database or "") if self.is_sqlite else None

    @property
    def name(self) -> str:
        """The name in notes and errors, without a password."""
        if self.is_sqlite:
            return str(self.path)
        options = {key: self.url.query[key] for key in _SHOWN_OPTIONS if key in self.url.query}
        return self.url.set(drivername="postgresql", query=options).render_as_string()

    def create_file(self) -> None:
        """Make the SQLite file, readable for this user alone, when there is none yet.

        Raises OSError.
        """
        if self.path is not None and not self.path.exists():
            folder = self.path.parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
            if os.geteuid() == 0:
                # Made by an administrator's command: it is the folder's owner that needs it.
                os.chown(self.path, folder.stat().st_uid, folder.stat().st_gid)

    async def version(self) -> SqliteVersion | None:
        """A value that stays equal until something is committed; ``None`` if it is not known.

        PostgreSQL has none.
        """
        return None if self._versions is None else await self._versions.read()

    async def now(self) -> datetime | None:
        """The time of the server's clock; ``None`` for SQLite. Raises ``unavailable``."""
        if self.is_sqlite:
            return None
        async with self.reading() as connection:
            moment: datetime = (
                await connection.execute(text("SELECT clock_timestamp()"))
            ).scalar_one()
        return moment

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose queries all see one moment. Raises ``unavailable``."""
        async with self._translated(), self._reading.connect() as connection:
            yield connection

    async def look_up(
        self, lookup: Lookup, parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """The rows of one short query. Raises ``unavailable``."""
        async with self._translated():
            if self._reader is not None:
                sql, values = lookup.sql, lookup.values(parameters)
                found: Sequence[Sequence[Any]] = await self._reader.read(
                    lambda connection: connection.execute(sql, values).fetchall()
                )
                return found
            async with self._looking_up.connect() as connection:
                rows = await connection.execute(lookup.query, parameters)
                return [tuple(row) for row in rows]

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that overlaps no other change; an exception rolls it back.

        Raises ``unavailable``.
        """
        async with self._my_turn(), self.writing() as connection:
            if not self.is_sqlite:
                for statement in _LOCK:
                    await connection.execute(statement)
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction beside others, for rows that no other transaction changes.

        Raises ``unavailable``.
        """
        async with self._translated(), self._changing.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(BUSY_S):
                await self._turn.acquire()
        except TimeoutError:
            words = f"is busy with another change of this process, for more than {BUSY_S} s"
            raise self._unavailable(f"{self.name}: {words}") from None
        try:
            yield
        finally:
            self._turn.release()

    @asynccontextmanager
    async def listening(
        self, channel: str, on_notice: Callable[[], None]
    ) -> AsyncIterator[Listening]:
        """Listen for notifications of commits, on an own connection. Raises ``unavailable``."""
        listening = Listening()
        if self.is_sqlite:
            yield listening
            return
        async with self._translated(), self._listening.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            driver.add_termination_listener(lambda _: listening.end())
            await driver.add_listener(channel, lambda *_: on_notice())
            try:
                yield listening
            finally:
                # Closed before the pool would: that one may wait for a server that is frozen.
                with contextlib.suppress(*self._errors):
                    await driver.close(timeout=_CLOSE_S)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except self._errors as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: BaseException) -> Exception:
        """The owner's error for an error of the driver, in words."""
        return self._unavailable(f"{self.name}: {in_words(error)}")

    async def close(self) -> None:
        """Close every connection; one that a frozen server does not close is aborted.

        SQLite's work is waited for, because its thread cannot be interrupted.
        """
        if self._versions is not None:
            await self._versions.close()
            if self._reader is not None:
                await self._reader.close()
            await self._engine.dispose()
            await self._threads.end(_CLOSE_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._engine.dispose()
                return
        for connection in tuple(self._connections):
            connection.terminate()
        await self._engine.dispose()
