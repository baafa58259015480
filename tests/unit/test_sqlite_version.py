"""The version of a SQLite file changes with each commit of others, and with nothing else."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from smtpgate.sql.sqlite_version import SqliteVersions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (n)")
    return file


@pytest.fixture
async def versions(path: Path) -> AsyncIterator[SqliteVersions]:
    versions = SqliteVersions(path)
    yield versions
    await versions.close()


def write(path: Path, end: str = "COMMIT") -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute(end)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_it_changes_with_each_commit_of_others(
    path: Path, versions: SqliteVersions, mode: str
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    seen = [await versions.read()]
    for _ in range(3):
        write(path)
        seen.append(await versions.read())
        assert await versions.read() == seen[-1]
    assert len(set(seen)) == 4
    assert None not in seen


async def test_a_change_that_was_rolled_back_leaves_it(
    path: Path, versions: SqliteVersions
) -> None:
    before = await versions.read()
    write(path, "ROLLBACK")
    assert await versions.read() == before


async def test_another_file_in_its_place_has_another_version(
    path: Path, versions: SqliteVersions, tmp_path: Path
) -> None:
    before = await versions.read()
    copy = tmp_path / "copy"
    shutil.copy(path, copy)
    copy.rename(path)
    after = await versions.read()
    assert after is not None
    assert after != before


async def test_a_file_that_is_not_there_has_none_and_is_not_made(
    path: Path, versions: SqliteVersions, tmp_path: Path
) -> None:
    before = await versions.read()
    path.rename(tmp_path / "away")
    assert await versions.read() is None
    assert not path.exists()
    (tmp_path / "away").rename(path)
    assert await versions.read() not in (before, None)


async def test_what_is_no_database_has_none(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    versions = SqliteVersions(path)
    assert await versions.read() is None
    await versions.close()


async def test_what_two_connections_see_is_never_equal(
    path: Path, versions: SqliteVersions
) -> None:
    others = SqliteVersions(path)
    assert await versions.read() != await others.read()
    await others.close()


async def test_it_can_be_read_again_once_it_was_closed(
    path: Path, versions: SqliteVersions
) -> None:
    before = await versions.read()
    await versions.close()
    write(path)
    assert await versions.read() not in (before, None)
