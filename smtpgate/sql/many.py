"""Statements of SQLite that take many rows in one step.

The driver releases the interpreter's lock for each step, and then waits for it: beside a busy
event loop that costs more than the row itself.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

# Numbers of rows that have a statement of their own, which the driver keeps. The largest stays
# below the 999 parameters that old versions of SQLite allow, with 14 columns.
_SIZES: Final = (64, 32, 16, 8, 4, 2, 1)
_ROW: Final = re.compile(r"VALUES (\(\?(?:, \?)*\))")


def insert(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert the rows by an INSERT of one row, whose parameters are only in VALUES."""
    _in_pieces(connection, lambda size: _inserting(sql, size), rows)


def delete(connection: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    """Delete the rows with those ids, as far as they are there."""
    _in_pieces(connection, lambda size: _deleting(table, size), [(one,) for one in ids])


def _in_pieces(
    connection: sqlite3.Connection,
    statement: Callable[[int], str],
    rows: Sequence[Sequence[Any]],
) -> None:
    at = 0
    for size in _SIZES:
        while len(rows) - at >= size:
            values = list(chain.from_iterable(rows[at : at + size]))
            connection.execute(statement(size), values)
            at += size


@lru_cache(maxsize=128)
def _inserting(sql: str, size: int) -> str:
    return _ROW.sub(lambda found: f"VALUES {', '.join([found[1]] * size)}", sql, count=1)


@lru_cache(maxsize=32)
def _deleting(table: str, size: int) -> str:
    return f"DELETE FROM {table} WHERE id IN ({', '.join('?' * size)})"  # noqa: S608 - a name of ours
