"""WAL mode, when others want the same of the same new file."""

import asyncio
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from sqlalchemy import select

from smtpgate.sql.database import Database, parse_url, sqlite_url
from smtpgate.sql.wal import enter_wal_mode


class Crowded(sqlite3.Connection):
    """Finds the file locked three times, as SQLite answers one of several at once."""

    refusals = 3

    def cursor(self, factory: object = None) -> "Hindered":  # type: ignore[override]
        return Hindered(self)


class Hindered(sqlite3.Cursor):
    def execute(self, statement: str, parameters: Iterable[object] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        connection = self.connection
        assert isinstance(connection, Crowded)
        if "WAL" in statement and connection.refusals:
            connection.refusals -= 1
            raise sqlite3.OperationalError("database is locked")
        return super().execute(statement)


def test_it_is_asked_for_again_where_sqlite_does_not_wait(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "file", factory=Crowded)
    assert enter_wal_mode(connection, busy_timeout_s=5)
    assert connection.refusals == 0
    connection.close()


def test_a_file_that_stays_locked_is_an_error_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            enter_wal_mode(connection, busy_timeout_s=0.05)
    finally:
        connection.close()
        holder.close()


def test_where_sqlite_waits_by_itself_the_waits_do_not_add_up(tmp_path: Path) -> None:
    path = tmp_path / "read"
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("CREATE TABLE t (x)")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    connection = sqlite3.connect(path, timeout=0.05, isolation_level=None)
    started = time.monotonic()
    try:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            enter_wal_mode(connection, busy_timeout_s=0.05)
    finally:
        connection.close()
        reader.close()
    assert time.monotonic() - started < 2


def test_what_is_only_in_memory_cannot_be_in_wal_mode() -> None:
    connection = sqlite3.connect(":memory:")
    assert not enter_wal_mode(connection, busy_timeout_s=1)
    connection.close()


@pytest.mark.usefixtures("sqlite_in_threads")
async def test_the_event_loop_goes_on_while_a_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    database = Database(parse_url(sqlite_url(path)), LookupError)
    waiting = asyncio.create_task(_reading(database))
    turns = 0
    async with asyncio.timeout(10):
        while turns < 5:  # more than a blocked loop has before the first attempt
            await asyncio.sleep(0.01)
            turns += 1
    assert not waiting.done()
    holder.close()
    await waiting
    await database.close()


async def _reading(database: Database) -> None:
    async with database.reading() as connection:
        await connection.execute(select(1))
