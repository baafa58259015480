"""A copy of a SQLite directory as it is at one moment, made while gates run."""

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path

from smtpgate.directory.change import RefusedChangeError
from smtpgate.sql.database import Database
from smtpgate.sql.engines import file_uri

__all__ = ["backup"]


async def backup(database: Database, target: Path) -> None:
    """Copy the database into a file that is not there yet, readable for this user alone.

    What is sealed stays sealed: the copy is worth nothing without the master key file. Raises
    RefusedChangeError, or OSError when the file cannot be written.
    """
    if database.path is None:
        raise RefusedChangeError(
            f"{database.name} is no SQLite file; PostgreSQL is backed up by pg_dump"
        )
    await asyncio.to_thread(_copy, database.path, target)


def _copy(source: Path, target: Path) -> None:
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise RefusedChangeError(
            f"there is {target} already; a backup overwrites nothing"
        ) from None
    try:
        with (
            contextlib.closing(sqlite3.connect(file_uri(source, "ro"), uri=True)) as reader,
            contextlib.closing(sqlite3.connect(target)) as writer,
        ):
            # In one step, which waits for nobody and lets nobody wait (WAL). Of several steps
            # each begins anew when others have changed something, and none may be the last.
            reader.backup(writer)
            # A copy of a file in WAL mode would want a second file beside it to be read.
            writer.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = writer.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        target.unlink()
        raise RefusedChangeError(f"{source} cannot be backed up: {error}") from None
    if verdict != "ok":
        raise RefusedChangeError(f"{target}: the copy is damaged, as {source} is: {verdict}")
