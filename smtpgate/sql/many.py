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

# One to seven rows, and multiples of eight up to 64, have a statement of their own, which the
# driver keeps: so up to 64 rows are two statements at most. With 14 columns they stay below
# the 999 parameters that old versions of SQLite allow.
_MOST: Final = 64
_EIGHT: Final = 8
_ROW: Final = re.compile(r"VALUES (\(\?(?:, \?)*\))")


def execute(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Execute a statement of one row, whose parameters are only in VALUES, for all rows.

    The number of changed rows.
    """
    if not rows:
        return 0
    values = list(chain.from_iterable(rows))
    return _in_pieces(connection, partial(_with_rows, sql), len(rows[0]), values)


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
        size = min(_MOST, rows if rows < _EIGHT else rows - rows % _EIGHT)
        end = at + size * columns
        piece = values if size == rows and not at else values[at:end]
        # By `execute` the driver would release the lock once more, for the last row's number.
        changed += connection.executemany(statement(size), (piece,)).rowcount
        at, rows = end, rows - size
    return changed


@lru_cache(maxsize=128)
def _with_rows(sql: str, size: int) -> str:
    return _ROW.sub(lambda found: f"VALUES {', '.join([found[1]] * size)}", sql, count=1)


@lru_cache(maxsize=32)
def _deleting(table: str, size: int) -> str:
    return f"DELETE FROM {table} WHERE id IN ({', '.join('?' * size)})"  # noqa: S608 - a name of ours
