"""WAL mode: entered by several processes at once where a file is new, and the log, synced."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

_WAIT_S: Final = 0.01


def enter_wal_mode(
    connection: Any,  # noqa: ANN401 - any driver's
    *,
    busy_timeout_s: float,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Have a database in WAL mode (https://www.sqlite.org/wal.html); whether it can be.

    SQLite does not wait where waiting could be for ever, as between two connections that both
    would change the mode; so it is asked again, after a ``sleep``. Raises the driver's
    OperationalError when the file is locked for longer. The connection has that timeout from
    then on.
    """
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout = 0")  # where SQLite does wait, it would each time
        for again in reversed(range(max(int(busy_timeout_s / _WAIT_S), 1))):
            try:
                return _enter(cursor)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or not again:
                    raise
            sleep(_WAIT_S)
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
        cursor.close()
    return False


def is_in_wal_mode(connection: Any) -> bool:  # noqa: ANN401 - any driver's
    """True if what is committed goes to the log of the file."""
    cursor = connection.cursor()
    try:
        return _is_entered(cursor, "PRAGMA journal_mode")
    finally:
        cursor.close()


def _enter(cursor: Any) -> bool:  # noqa: ANN401 - any driver's
    return _is_entered(cursor, "PRAGMA journal_mode") or _is_entered(
        cursor, "PRAGMA journal_mode = WAL"
    )


def _is_entered(cursor: Any, statement: str) -> bool:  # noqa: ANN401 - any driver's
    cursor.execute(statement)
    return bool(cursor.fetchone()[0] == "wal")


def empty_log(connection: Any) -> None:  # noqa: ANN401 - any driver's
    """Have all that was committed in the file itself, synced, and nothing in its log.

    Raises OperationalError while another connection reads what is in the log.
    """
    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise sqlite3.OperationalError("database is locked")


class SyncedLog:
    """The log of a file that a connection has open, for ``synchronous = NORMAL``.

    A commit only writes to the log then; with ``FULL`` it would do the same, and sync the log.
    SQLite has one log from the first connection to the last, and takes no locks in it, so it
    may be opened and closed beside the connection.

    After a sync that failed, the next one may succeed though part of the log is not on the disk
    (fsync(2)), and what is committed later stands behind that. So it is to be emptied then.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        # SQLite's name of the file, where symbolic links are followed: the log is beside that.
        name = connection.execute("PRAGMA database_list").fetchone()[2]
        self._path = f"{name}-wal"
        self._descriptor: int | None = None

    def sync(self) -> None:
        """Have all that was committed survive a power cut. Raises OSError."""
        if self._descriptor is None:  # a file without tables has none before the first commit
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close it; the connection goes on."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # nothing was written by it
                os.close(descriptor)
