"""A directory in a SQLite file that is locked, full, damaged, read-only, replaced or gone.

Whatever happens: a clear text, the process lives, and nothing is answered that was not looked
up. What can be put right is met again without a restart.
"""

import asyncio
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.directory.accounts import account, update_account
from smtpgate.directory.backup import backup
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.sealing import MasterKeyError, new_master_key
from smtpgate.directory.store import DirectoryStore, read_master_keys
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql import engines
from smtpgate.sql.database import Database, parse_url, sqlite_url
from smtpgate.sql.engines import DatabaseUrlError
from smtpgate.sql.upgrade import SchemaError
from tests.support.clock import MovableClock
from tests.support.daemons import Lab
from tests.support.directory import ACTOR, MASTER_KEYS, live, open_store, sqlite_in
from tests.support.forks import Fork
from tests.support.rows import rows
from tests.support.source import ROOT
from tests.support.tenants import ACME, OTHER, add_account, add_identity, notes
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("sqlite_in_threads")
PAGE: Final = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "directory.sqlite"


@pytest.fixture
async def store(tmp_path: Path, clock: MovableClock) -> AsyncIterator[DirectoryStore]:
    """With an account and a domain."""
    async with open_store(sqlite_in(tmp_path), clock=clock) as opened:
        await add_account(opened)
        await add_identity(opened)
        yield opened


@pytest.fixture
async def directory(store: DirectoryStore, clock: MovableClock) -> LiveDirectory:
    """That has answered for the domain already."""
    made = live(store, clock)
    await made.catch_up()
    assert len(await made.identities("example.com")) == 1
    return made


async def unavailable(work: Awaitable[object]) -> str:
    with pytest.raises(DirectoryUnavailableError) as refusal:
        await work
    text = str(refusal.value)
    assert "\n" not in text
    assert "SELECT" not in text
    assert "sqlalche" not in text
    return text


class Slow(logging.Handler):
    """Holds up the driver's threads at each step."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.threadName != threading.main_thread().name:
            threading.Event().wait(0.02)


async def pause(store: DirectoryStore, reason: str = "abuse") -> None:
    async with store.changing(ACTOR) as change:
        await update_account(change, ACME, {"paused_reason": reason})


# -- the master key ----------------------------------------------------------------------------


async def test_another_master_key_of_the_same_name_is_refused_and_nothing_overwritten(
    store: DirectoryStore,
) -> None:
    url, before = sqlite_url(store.database.path or Path()), await notes(store)
    with pytest.raises(MasterKeyError, match=r"under another master key .* calls m1"):
        async with open_store(url, master_keys=new_master_key("m1")):
            pass
    async with open_store(url) as again:
        assert await notes(again) == before


async def test_a_file_without_the_master_key_is_refused(store: DirectoryStore) -> None:
    url = sqlite_url(store.database.path or Path())
    with pytest.raises(MasterKeyError, match=r"under master key m1, .* put it back"):
        async with open_store(url, master_keys=new_master_key("m2")):
            pass
    async with open_store(url, master_keys=new_master_key("m2") + MASTER_KEYS):
        pass


def test_a_master_key_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing, wrong = tmp_path / "missing.key", tmp_path / "wrong.key"
    with pytest.raises(MasterKeyError, match=str(missing)):
        read_master_keys(missing, [])
    for octets in (b"", b"m1", b"m1 AAAA", b"\xff\xfe", b"# none"):
        wrong.write_bytes(octets)
        wrong.chmod(0o600)
        with pytest.raises(MasterKeyError, match=str(wrong)):
            read_master_keys(wrong, [])


# -- the file ----------------------------------------------------------------------------------


async def test_a_file_that_is_not_there_is_not_made_by_asking(
    path: Path, clock: MovableClock
) -> None:
    database = Database(parse_url(sqlite_url(path)), DirectoryUnavailableError)

    async def read() -> None:
        async with database.reading():
            pass

    try:
        assert f"{path}: cannot be opened" in await unavailable(read())
        assert not path.exists()
    finally:
        await database.close()


async def test_closing_waits_for_what_a_connection_is_at(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as for a disk that is slow to take what the last connection still writes."""
    monkeypatch.setattr("smtpgate.sql.database._CLOSE_S", 0.02)
    database = Database(parse_url(sqlite_url(path)), DirectoryUnavailableError)
    database.create_file()
    async with database.reading() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.create_function("sleep", 1, time.sleep)
    asleep = asyncio.ensure_future(driver.execute_fetchall("SELECT sleep(0.05)"))
    await asyncio.sleep(0)
    await database.close()
    assert await asleep == [(None,)]


async def test_no_thread_outlives_what_could_not_be_opened(path: Path) -> None:
    """Its end would find no event loop any more."""
    path.mkdir()
    before = set(threading.enumerate())
    log, slow = logging.getLogger("aiosqlite"), Slow()
    log.addHandler(slow)
    log.setLevel(logging.DEBUG)
    try:
        database = Database(parse_url(sqlite_url(path)), DirectoryUnavailableError)
        with pytest.raises(DirectoryUnavailableError, match="cannot be opened"):
            async with database.reading():
                pass
        await database.close()
        left = set(threading.enumerate()) - before
    finally:
        log.removeHandler(slow)
        log.setLevel(logging.NOTSET)
    assert [thread.name for thread in left if "asyncio_" not in thread.name] == []


async def test_a_file_is_readable_for_its_user_alone(store: DirectoryStore) -> None:
    path = store.database.path or Path()
    for one in path.parent.glob("directory.sqlite*"):
        assert one.stat().st_mode & 0o777 == 0o600, one


@pytest.mark.parametrize("name", ["a%20b.sqlite", "a?b#c.sqlite", "ü;x=y.sqlite", "sp ace"])
async def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    copy = tmp_path / f"copy of {name}"
    async with open_store(sqlite_url(tmp_path / name)) as store:
        await add_account(store)
        await backup(store.database, copy)
    assert (tmp_path / name).stat().st_size > 0
    async with open_store(sqlite_url(copy)) as copied, copied.reading() as connection:
        assert (await account(connection, ACME)).id == ACME


@rows(
    "url",
    [
        "sqlite://", "sqlite:///:memory:", "sqlite:////a?mode=memory", "mysql://u:geheim@h/d",
        "postgresql://u:geheim@h:port/d", "postgresql://u:geheim@h", "geheim", "",
    ],
)  # fmt: skip
def test_a_url_that_names_no_database_is_refused_without_being_reported(url: str) -> None:
    with pytest.raises(DatabaseUrlError) as refusal:
        parse_url(url)
    assert "geheim" not in str(refusal.value)


async def test_what_is_no_database_is_left_alone(path: Path) -> None:
    path.write_bytes(b"these are somebody's notes\n" * 500)
    before = path.read_bytes()
    with pytest.raises(DirectoryUnavailableError, match="is no SQLite database, or is damaged"):
        async with open_store(sqlite_url(path)):
            pass
    assert path.read_bytes() == before


async def test_a_file_that_was_cut_short_is_reported(path: Path, clock: MovableClock) -> None:
    async with open_store(sqlite_url(path), clock=clock) as store:
        for number in range(50):
            await add_account(store, f"{number:012}")
    with path.open("r+b") as file:
        file.truncate(5 * PAGE)
    assert "damaged; restore a backup" in await _refused(_used(path, clock))


async def _used(path: Path, clock: MovableClock) -> None:
    async with open_store(sqlite_url(path), clock=clock) as store:
        directory = live(store, clock)
        await directory.catch_up()
        _ = await directory.identities("example.com")
        _ = await notes(store)
        await add_account(store, OTHER)


async def _refused(work: Awaitable[None]) -> str:
    with pytest.raises((DirectoryUnavailableError, SchemaError)) as refusal:
        await work
    return str(refusal.value)


async def test_pages_that_were_overwritten_are_reported_and_nothing_is_taken_from_them(
    path: Path, clock: MovableClock
) -> None:
    async with open_store(sqlite_url(path), clock=clock) as store:
        await add_account(store)
        await add_identity(store)
    with path.open("r+b") as file:
        file.seek(PAGE)
        file.write(os.urandom(path.stat().st_size - PAGE))
    assert "damaged; restore a backup" in await _refused(_used(path, clock))


async def test_a_file_that_is_taken_away_is_missed_and_met_again(
    store: DirectoryStore, directory: LiveDirectory, path: Path
) -> None:
    """SQLite itself would go on with the file that has no name any more."""
    path.rename(path.with_suffix(".gone"))
    assert "cannot be opened" in await unavailable(directory.catch_up())
    assert "cannot be opened" in await unavailable(directory.identities("new.example"))
    assert "cannot be opened" in await unavailable(pause(store))
    assert len(await directory.identities("example.com")) == 1
    assert not path.exists()
    path.with_suffix(".gone").rename(path)
    await directory.catch_up()
    assert await directory.identities("new.example") == ()
    await pause(store)


async def test_another_file_in_its_place_is_noticed(
    store: DirectoryStore, directory: LiveDirectory, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with open_store(sqlite_in(tmp_path / "other")) as other:
        await add_account(other, OTHER)
    shutil.move(tmp_path / "other" / path.name, path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    await directory.catch_up()
    assert await directory.identities("example.com") == ()
    async with store.reading() as connection:
        assert (await account(connection, OTHER)).id == OTHER


async def test_a_full_disk_is_reported_and_met_again(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    """As SQLite sees it: no page can be added."""
    async with store.reading() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar()
        _ = await connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    before = await notes(store)

    async def fill() -> None:
        for number in range(500):
            await add_account(store, f"{number + 10:012}", name="x" * 250)

    assert "database or disk is full" in await unavailable(fill())
    assert len(await directory.identities("example.com")) == 1
    await directory.catch_up()
    assert await directory.identities("new.example") == ()
    async with store.reading() as connection:
        _ = await connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    await add_account(store, OTHER)
    assert len(await notes(store)) > len(before)


async def test_a_lock_of_another_process_is_waited_for_and_only_so_long(
    directory: LiveDirectory, path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_S", 0.3)
    async with open_store(sqlite_in(path.parent), clock=clock) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            says = await unavailable(pause(store))
            assert 0.25 < time.monotonic() - started < 3
            assert says == f"{path}: is busy with another change, for more than 5 s"
            # A reader does not wait.
            started = time.monotonic()
            await directory.catch_up()
            assert await directory.identities("new.example") == ()
            assert time.monotonic() - started < 0.25
            other.execute("ROLLBACK")
        await pause(store)


async def test_many_changes_at_once_leave_readers_their_connections(
    store: DirectoryStore, directory: LiveDirectory, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        changes = [asyncio.ensure_future(pause(store, f"reason {one}")) for one in range(30)]
        await asyncio.sleep(0)
        started = time.monotonic()
        answers = await asyncio.gather(
            *(directory.identities(f"d{one}.example") for one in range(20))
        )
        assert time.monotonic() - started < 2
        assert not any(answers)
        other.execute("ROLLBACK")
    await asyncio.gather(*changes)
    assert len(await notes(store)) == 32


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="dropping to another user needs root")
def test_a_file_that_this_user_may_not_write_is_reported() -> None:
    """Root may write anything, so it is another user that tries.

    It becomes one when all is imported: it may not enter a checkout in root's own folder.
    """
    code = (
        "import aiosqlite, asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from smtpgate.ports import DirectoryUnavailableError\n"
        "from smtpgate.sql.database import Database, parse_url, sqlite_url\n"
        "async def main(database):\n"
        "    try:\n"
        "        async with database.changing() as connection:\n"
        "            await connection.exec_driver_sql('CREATE TABLE t (x)')\n"
        "    except DirectoryUnavailableError as error:\n"
        "        print(error)\n"
        "    await database.close()\n"
        "url = parse_url(sqlite_url(Path(sys.argv[1])))\n"
        "database = Database(url, DirectoryUnavailableError)\n"
        "os.chdir('/')\n"
        "os.setgroups([])\n"
        "os.setresgid(65534, 65534, 65534)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "asyncio.run(main(database))\n"
    )
    with Lab() as lab:  # in a folder that others may enter
        path = lab.folder / "read-only.sqlite"
        with closing(sqlite3.connect(path)) as made:
            made.execute("CREATE TABLE a (x)")
        path.chmod(0o644)
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
        )
    assert "may this user write the file and its folder?" in done.stdout, done.stderr
    assert "CREATE" not in done.stdout


@pytest.mark.slow
def test_two_that_start_at_once_on_nothing_both_come_up(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.support.directory import open_store, sqlite_in\n"
        "async def main():\n"
        "    async with open_store(sqlite_in(Path(sys.argv[1]))) as store:\n"
        "        print(await store.look())\n"
        "asyncio.run(main())\n"
    )
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        started = [
            Fork("-c", code, folder, output=tmp_path / f"{attempt}-{number}.log")
            for number in range(3)
        ]
        for process in started:
            assert (process.wait(), process.output()) == (0, "set()\n")


def test_a_change_that_was_made_is_on_the_disk(tmp_path: Path) -> None:
    """Unlike in these tests, where nobody waits for it."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from sqlalchemy import text\n"
        "from tests.support.directory import open_store, sqlite_in\n"
        "async def main():\n"
        "    async with open_store(sqlite_in(Path(sys.argv[1]))) as store:\n"
        "        async with store.reading() as connection:\n"
        "            print(await connection.scalar(text('PRAGMA synchronous')))\n"
        "asyncio.run(main())\n"
    )
    process = Fork("-c", code, tmp_path, output=tmp_path / "output")
    assert (process.wait(), process.output()) == (0, "2\n")  # FULL


@pytest.mark.slow
async def test_a_directory_that_follows_lives_through_it_all(
    store: DirectoryStore, directory: LiveDirectory, path: Path
) -> None:
    await directory.start()
    try:
        for _ in range(3):
            path.rename(path.with_suffix(".gone"))
            await until(lambda: directory.problem is not None)
            assert len(await directory.identities("example.com")) == 1
            path.with_suffix(".gone").rename(path)
            await until(lambda: directory.problem is None)
    finally:
        await directory.stop()
