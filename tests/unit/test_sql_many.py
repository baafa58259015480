"""Statements of SQLite with many rows do as their single ones do, row by row."""

import sqlite3
from contextlib import closing
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.sql import many

_TABLE: Final = "CREATE TABLE t (id INTEGER PRIMARY KEY, sum INTEGER)"
_ADD: Final = (
    "INSERT INTO t (id, sum) VALUES (?, ?)"
    " ON CONFLICT (id) DO UPDATE SET sum = sum + excluded.sum"
)
_ROWS: Final = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9)), max_size=200)


@given(rows=_ROWS, gone=st.lists(st.integers(0, 200), max_size=200))
def test_many_rows_at_once_are_the_same_as_one_by_one(
    rows: list[tuple[int, int]], gone: list[int]
) -> None:
    found = []
    for is_many in (True, False):
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(_TABLE)
            if is_many:
                many.execute(connection, _ADD, rows)
                many.delete(connection, "t", gone)
            else:
                connection.executemany(_ADD, rows)
                connection.executemany("DELETE FROM t WHERE id = ?", [(one,) for one in gone])
            found.append(connection.execute("SELECT id, sum FROM t ORDER BY id").fetchall())
    assert found[0] == found[1]


@given(rows=st.lists(st.integers(0, 200), max_size=200, unique=True))
def test_many_rows_are_changed_at_once_and_counted(rows: list[int]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(_TABLE)
        connection.executemany(_ADD, [(number, 0) for number in range(0, 200, 2)])
        changed = many.execute(
            connection,
            "UPDATE t SET sum = v.column2 FROM (VALUES (?, ?)) AS v WHERE t.id = v.column1",
            [(number, number + 1) for number in rows],
        )
        found = connection.execute("SELECT id, sum FROM t WHERE sum > 0 ORDER BY id").fetchall()
    there = sorted(number for number in rows if number < 200 and number % 2 == 0)
    assert (changed, found) == (len(there), [(number, number + 1) for number in there])


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 12, 14, 65, 500])
def test_the_number_of_steps_grows_much_more_slowly_than_the_rows(rows: int) -> None:
    statements: list[str] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(_TABLE)
        connection.set_trace_callback(statements.append)
        many.execute(connection, _ADD, [(number, 1) for number in range(rows)])
    assert len(statements) <= (rows > 0) + (rows > 16) + rows // 64


def test_one_changed_row_needs_no_table_of_rows() -> None:
    change = "UPDATE t SET sum = v.column2 FROM (VALUES (?, ?)) AS v WHERE t.id = v.column1"
    statements: list[str] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(_TABLE)
        many.execute(connection, _ADD, [(1, 0), (2, 0)])
        connection.set_trace_callback(statements.append)
        assert many.execute(connection, change, [(2, 7)]) == 1
        connection.set_trace_callback(None)
        assert connection.execute("SELECT id, sum FROM t").fetchall() == [(1, 0), (2, 7)]
    assert statements == ["UPDATE t SET sum = 7 WHERE t.id = 2"]
