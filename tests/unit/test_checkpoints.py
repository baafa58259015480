"""Checkpoints of a SQLite file beside its transactions."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpgate.sql.checkpoints import Checkpointer, checkpoint


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "a file?.sqlite"  # a character that is special in a URI


@pytest.fixture(name="writer")
def _writer(file: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE row (number INTEGER)")
    checkpoint(file)
    yield connection
    connection.close()


def rows_without_the_log(file: Path) -> list[int]:
    connection = sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)
    rows = [number for (number,) in connection.execute("SELECT number FROM row")]
    connection.close()
    return rows


def test_what_is_committed_is_copied_and_a_transaction_goes_on(
    file: Path, writer: sqlite3.Connection
) -> None:
    writer.execute("INSERT INTO row VALUES (1)")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO row VALUES (2)")
    assert rows_without_the_log(file) == []
    checkpoint(file)
    assert rows_without_the_log(file) == [1]
    writer.execute("COMMIT")
    checkpoint(file)
    assert rows_without_the_log(file) == [1, 2]


def test_a_commit_that_is_noted_is_copied(file: Path, writer: sqlite3.Connection) -> None:
    copied = threading.Semaphore(0)

    def copy(path: Path) -> None:
        checkpoint(path)
        copied.release()

    checkpoints = Checkpointer(file, period_s=0, copy=copy)
    for number in range(3):
        writer.execute("INSERT INTO row VALUES (?)", (number,))
        checkpoints.note_commit()
        assert copied.acquire(timeout=10)
        assert rows_without_the_log(file) == list(range(number + 1))
    checkpoints.close()
    assert not copied.acquire(blocking=False)


def test_it_makes_no_file_and_raises_nothing(file: Path) -> None:
    checkpoint(file)
    assert not file.exists()
    file.write_bytes(b"no database of any kind" * 100)
    checkpoint(file)


def test_it_ends_without_waiting_for_its_next_turn(file: Path) -> None:
    checkpoints = Checkpointer(file, period_s=3600)
    checkpoints.close()  # no thread was started
    checkpoints = Checkpointer(file, period_s=3600)
    checkpoints.note_commit()
    checkpoints.close()
