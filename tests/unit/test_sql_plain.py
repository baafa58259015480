"""Transactions of SQLite's driver that begin and end with one hand-over of the interpreter."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smtpgate.sql import plain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "file")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    return tmp_path / "file"


@pytest.fixture
def both(path: Path) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    one, other = (sqlite3.connect(path, timeout=0, isolation_level=None) for _ in range(2))
    yield one, other
    one.close()
    other.close()


def test_a_transaction_that_writes_has_the_lock_and_what_is_committed_is_there(
    both: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    one, other = both
    plain.begin(one)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        plain.begin(other)
    one.execute("INSERT INTO t VALUES (1)")
    assert other.execute("SELECT * FROM t").fetchall() == []
    plain.commit(one)
    assert other.execute("SELECT * FROM t").fetchall() == [(1,)]
    plain.begin(other)


def test_a_transaction_that_reads_waits_for_none_and_sees_one_moment(
    both: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    one, other = both
    plain.begin(one)
    plain.begin(other, to_write=False)
    assert other.execute("SELECT * FROM t").fetchall() == []
    one.execute("INSERT INTO t VALUES (1)")
    plain.commit(one)
    assert other.execute("SELECT * FROM t").fetchall() == []
    plain.commit(other)
    assert other.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_a_transaction_that_an_error_ended_cannot_be_committed(
    both: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    one, _ = both
    plain.begin(one)
    one.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError):
        one.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
    with pytest.raises(sqlite3.OperationalError, match="rolled back"):
        plain.commit(one)
