"""WAL mode, and the moment in which several processes make the same new file at once."""

import sqlite3
import time
from collections.abc import Callable
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


def _enter(cursor: Any) -> bool:  # noqa: ANN401 - any driver's
    cursor.execute("PRAGMA journal_mode")
    if cursor.fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
        return bool(cursor.fetchone()[0] == "wal")
    return True
