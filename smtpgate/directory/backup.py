"""A copy of a SQLite directory as it is at one moment, made while gates run."""

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path

from smtpgate.directory.change import RefusedChangeError
from smtpgate.sql.database import Database
from smtpgate.sql.engines import file_uri


async def backup(database: Database, target: Path, *, replace: bool = False) -> None:
    """Copy the database into a file, readable for this user alone; its folder is made.

    With ``replace`` the copy takes the place of a file that is there, once it is whole. What is
    sealed stays sealed: the copy is worth nothing without the master key file. Raises
    RefusedChangeError, or OSError when the file cannot be written.
    """
    if database.path is None:
        raise RefusedChangeError(
            f"{database.name} is no SQLite file; PostgreSQL is backed up by pg_dump"
        )
    await asyncio.to_thread(_put, database.path, target, replace)


def _put(source: Path, target: Path, replace: bool) -> None:
    if not replace and target.exists():
        raise RefusedChangeError(
            f"there is {target} already, and it was left as it is; name another file, or "
            f"replace it with --force"
        )
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        _copy(source, draft, target)
        if replace:
            draft.replace(target)
        else:
            _link(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _link(draft: Path, target: Path) -> None:
    """Give the file its name, unless another has taken it meanwhile."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise RefusedChangeError(f"{target} was made by another process meanwhile") from None


def _copy(source: Path, draft: Path, target: Path) -> None:
    try:
        with (
            contextlib.closing(sqlite3.connect(file_uri(source, "ro"), uri=True)) as reader,
            contextlib.closing(sqlite3.connect(draft)) as writer,
        ):
            # In one step, in which neither side waits for the other (WAL). Of several steps
            # each begins again when others have changed something, and none may be the last.
            reader.backup(writer)
            # A copy of a file in WAL mode would want a second file beside it to be read.
            writer.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = writer.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise RefusedChangeError(f"{source} cannot be backed up: {error}") from None
    if verdict != "ok":
        raise RefusedChangeError(f"{target}: the copy is damaged, as {source} is: {verdict}")
