"""A backup of a SQLite directory that others are changing."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Final

from smtpgate.directory.backup import backup
from tests.support.directory import open_store, sqlite_in

PATIENCE_S: Final = 10


def write(path: Path, done: Event) -> int:
    """Change two tables in each transaction, as fast as can be; says how often."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        made = 0
        while not done.is_set():
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO left VALUES (1)")
            connection.execute("INSERT INTO right VALUES (1)")
            connection.execute("COMMIT")
            made += 1
    return made


async def test_a_backup_ends_while_others_write_and_has_no_half_of_a_change(
    tmp_path: Path,
) -> None:
    path, copy = tmp_path / "directory.sqlite", tmp_path / "copy.sqlite"
    done = Event()
    async with open_store(sqlite_in(tmp_path)) as store:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE left (n)")
            connection.execute("CREATE TABLE right (n)")
            # So large that there are many changes meanwhile.
            connection.execute("CREATE TABLE filler AS SELECT zeroblob(50000000) AS octets")
            connection.commit()
        writing = asyncio.create_task(asyncio.to_thread(write, path, done))
        copying = asyncio.create_task(backup(store.database, copy))
        try:
            await asyncio.wait_for(asyncio.shield(copying), PATIENCE_S)
        finally:
            done.set()
            written = await writing
            await copying
    with closing(sqlite3.connect(copy)) as copied:
        (left,) = copied.execute("SELECT count(*) FROM left").fetchone()
        (right,) = copied.execute("SELECT count(*) FROM right").fetchone()
    assert left == right <= written
    assert written > 1
