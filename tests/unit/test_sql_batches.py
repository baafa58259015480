"""Transactions of a SQLite file that survive a power cut, whatever its log goes through."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smtpgate.sql.batches import SqliteBatches
from smtpgate.sql.database import Database, parse_url, sqlite_url


class LostError(Exception):
    """The file cannot be used now."""


def batches_of(path: Path) -> SqliteBatches:
    return SqliteBatches(Database(parse_url(sqlite_url(path)), LostError))


def put(batches: SqliteBatches, number: int) -> None:
    batches.write(lambda to: to.execute("INSERT INTO t VALUES (?)", (number,)), promised=True)
    batches.sync()


def put_without_promise(batches: SqliteBatches, number: int) -> None:
    batches.write(lambda to: to.execute("INSERT INTO t VALUES (?)", (number,)), promised=False)


def rows_of(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT x FROM t ORDER BY x")]


class Disk:
    """A disk that loses, when a sync of the log fails, what was appended since the last one.

    The kernel has these octets and takes them for written, so the next sync succeeds.
    """

    def __init__(self, log: Path) -> None:
        self.synced: list[tuple[int, int]] = []  # the files, each time
        self.fails = False
        self._log = log
        self._safe = self._lost = b""

    def sync(self, descriptor: int) -> None:
        found, octets = os.fstat(descriptor), self._log.read_bytes()
        if self.fails:
            self.fails = False
            self._lost = octets[len(self._safe) :]
            raise OSError(errno.EIO, "Input/output error")
        self.synced.append((found.st_dev, found.st_ino))
        self._safe = octets

    def after_power_cut(self, path: Path, folder: Path) -> Path:
        """A copy of the file as it would be."""
        folder.mkdir()
        copy = folder / path.name
        copy.write_bytes(path.read_bytes())
        log = self._safe.replace(self._lost, bytes(len(self._lost)))
        (folder / f"{path.name}-wal").write_bytes(log)
        return copy


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as other:  # as a reader's: the log stays
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (x)")
        yield path


@pytest.fixture
def disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(path.with_name(f"{path.name}-wal"))
    monkeypatch.setattr(os, "fdatasync", disk.sync)
    return disk


def test_a_file_behind_a_symbolic_link_is_written_and_its_log_is_synced(
    path: Path, disk: Disk, tmp_path: Path
) -> None:
    link = tmp_path / "elsewhere" / "linked.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with closing(batches_of(link)) as batches:
        put(batches, 1)
        log = path.with_name(f"{path.name}-wal").stat()
        assert disk.synced == [(log.st_dev, log.st_ino)]
    assert rows_of(path) == [1]


def test_the_first_transaction_of_a_new_file_is_synced(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "new 100%.db"
    with closing(batches_of(path)) as batches:
        batches.write(lambda to: to.execute("CREATE TABLE t (x)"), promised=True)
        batches.sync()
        put(batches, 1)
    assert rows_of(path) == [1]


def test_what_is_committed_after_a_failed_sync_survives_a_power_cut(
    path: Path, disk: Disk, tmp_path: Path
) -> None:
    with closing(batches_of(path)) as batches:
        put(batches, 1)
        disk.fails = True
        with pytest.raises(LostError, match="Input/output error"):
            put(batches, 2)
        put(batches, 3)
        assert rows_of(disk.after_power_cut(path, tmp_path / "copy")) == [1, 2, 3]


def test_after_a_failed_sync_nothing_is_written_while_the_log_cannot_be_emptied(
    path: Path, disk: Disk
) -> None:
    with closing(batches_of(path)) as batches:
        put(batches, 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM t").fetchall()
            disk.fails = True
            with pytest.raises(LostError):
                put(batches, 2)
            with pytest.raises(LostError, match="busy with another change"):
                put(batches, 3)
        put(batches, 4)
    assert rows_of(path) == [1, 2, 4]


@pytest.mark.parametrize("promised", [False, True])
def test_a_log_that_is_closed_before_it_was_synced_is_an_error(
    path: Path, disk: Disk, *, promised: bool
) -> None:
    with closing(batches_of(path)) as batches:
        batches.write(lambda to: to.execute("INSERT INTO t VALUES (1)"), promised=True)
        with pytest.raises(LostError):
            batches.write(
                lambda to: to.execute("INSERT INTO absent VALUES (1)"), promised=False
            )
        batches.write(lambda to: to.execute("INSERT INTO t VALUES (2)"), promised=promised)
        with pytest.raises(LostError, match="closed before it was synced"):
            batches.sync()
        assert disk.synced == []
        batches.sync()  # nothing is promised any more
        put(batches, 3)
    assert rows_of(path) == [1, 2, 3]


def test_a_transaction_that_promises_nothing_is_not_synced(path: Path, disk: Disk) -> None:
    with closing(batches_of(path)) as batches:
        put_without_promise(batches, 1)
        batches.sync()
        assert disk.synced == []
        put(batches, 2)
        put_without_promise(batches, 3)
        batches.sync()
        assert len(disk.synced) == 1
    assert rows_of(path) == [1, 2, 3]


def test_after_an_error_other_processes_are_not_waited_for_until_a_transaction_succeeds(
    path: Path,
) -> None:
    def waits_ms(to: sqlite3.Connection) -> int:
        (found,) = to.execute("PRAGMA busy_timeout").fetchone()
        return int(found)

    def fail(to: sqlite3.Connection) -> None:
        to.execute("INSERT INTO absent VALUES (1)")

    with closing(batches_of(path)) as batches:
        usual_ms = batches.write(waits_ms, promised=False)
        with pytest.raises(LostError):
            batches.write(fail, promised=False)
        assert batches.write(waits_ms, promised=False) == 50 < usual_ms
        assert batches.write(waits_ms, promised=False) == usual_ms
