"""Statements of SQLite that take many rows in one step.

The driver releases the interpreter's lock for each step, and then waits for it: beside a busy
event loop that costs more than the row itself.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Final

# Up to 16 rows, and multiples of 16 up to 64, have a statement of their own, which the driver
# keeps: so a group of messages is one step, and up to 64 rows are two at most. With 15 columns
# they stay below the 999 parameters that old versions of SQLite allow.
_MOST: Final = 64
_FEW: Final = 16
_ROW: Final = re.compile(r"VALUES (\([^()]*\))")
_FROM: Final = re.compile(r"FROM \(VALUES \(\?(?:, \?)*\)\) AS v\s")
_COLUMN: Final = re.compile(r"v\.column(\d+)")


def execute(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Execute a statement of one row, whose parameters are only in VALUES, for all rows.

    An UPDATE takes them from ``(VALUES ...) AS v``. Returns the number of changed rows.
    """
    size = len(rows)
    if size > _FEW:
        values = list(chain.from_iterable(rows))
        return _in_pieces(connection, partial(_with_rows, sql), len(rows[0]), values)
    if size > 1:
        rows = (list(chain.from_iterable(rows)),)
    return connection.executemany(_with_rows(sql, size), rows).rowcount if size else 0


def delete(connection: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    """Delete the rows with those ids, as far as they are there."""
    _ = _in_pieces(connection, partial(_deleting, table), 1, ids)


def _in_pieces(
    connection: sqlite3.Connection,
    statement: Callable[[int], str],
    columns: int,
    values: Sequence[Any],
) -> int:
    at, rows, changed = 0, len(values) // columns, 0
    while rows:
        size = rows if rows <= _FEW else min(_MOST, rows - rows % _FEW)
        end = at + size * columns
        piece = values if size == rows and not at else values[at:end]
        # By `execute` the driver would release the lock once more, for the last row's number.
        changed += connection.executemany(statement(size), (piece,)).rowcount
        at, rows = end, rows - size
    return changed


@lru_cache(maxsize=256)
def _with_rows(sql: str, size: int) -> str:
    if size == 1 and _FROM.search(sql):
        # SQLite would make a table of that row first, which takes longer than the change.
        return _COLUMN.sub(r"?\1", _FROM.sub("", sql))
    return _ROW.sub(lambda found: f"VALUES {', '.join([found[1]] * size)}", sql, count=1)


@lru_cache(maxsize=32)
def _deleting(table: str, size: int) -> str:
    return f"DELETE FROM {table} WHERE id IN ({', '.join('?' * size)})"  # noqa: S608 - a name of ours
