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

# The rows of one statement are a power of two, up to this one; the driver keeps each statement.
# So it stays below the 999 parameters that old versions of SQLite allow, with 14 columns.
_MOST: Final = 64
_ROW: Final = re.compile(r"VALUES (\(\?(?:, \?)*\))")


def insert(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert the rows by an INSERT of one row, whose parameters are only in VALUES."""
    if rows:
        values = list(chain.from_iterable(rows))
        _in_pieces(connection, partial(_inserting, sql), len(rows[0]), values)


def delete(connection: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    """Delete the rows with those ids, as far as they are there."""
    _in_pieces(connection, partial(_deleting, table), 1, ids)


def _in_pieces(
    connection: sqlite3.Connection,
    statement: Callable[[int], str],
    columns: int,
    values: Sequence[Any],
) -> None:
    at, rows = 0, len(values) // columns
    while rows:
        size = min(_MOST, 1 << rows.bit_length() - 1)
        end = at + size * columns
        piece = values if size == rows and not at else values[at:end]
        connection.execute(statement(size), piece)
        at, rows = end, rows - size


@lru_cache(maxsize=128)
def _inserting(sql: str, size: int) -> str:
    return _ROW.sub(lambda found: f"VALUES {', '.join([found[1]] * size)}", sql, count=1)


@lru_cache(maxsize=32)
def _deleting(table: str, size: int) -> str:
    return f"DELETE FROM {table} WHERE id IN ({', '.join('?' * size)})"  # noqa: S608 - a name of ours
