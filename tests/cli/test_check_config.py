"""``smtpgate check-config``: what it says of the state folder, and of the journal in it."""

import errno
import os
import pwd
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import typer

from smtpgate.cli import terminal
from smtpgate.clock import SystemClock
from smtpgate.gate.state_dir import FOLDER_OF_UNIT, USER_OF_UNIT
from tests.support.desk import Desk
from tests.support.journal import journal_in, open_journal
from tests.support.rights import NOBODY, as_user_without_rights, opened_to_all
from tests.support.source import ROOT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
async def state(desk: Desk) -> Path:
    """The state folder, with a journal that a gate has made."""
    folder = desk.database.parent
    async with open_journal(journal_in(folder), folder, clock=SystemClock()):
        pass
    return folder


def test_a_state_folder_that_is_fine_is_no_matter(desk: Desk, state: Path) -> None:
    before = {path: path.read_bytes() for path in state.iterdir()}
    reported = desk.says("check-config", desk.config)
    assert f"journal: {state}/journal.sqlite, for 30 days" in reported
    assert "state_dir" not in reported
    assert {path: path.read_bytes() for path in state.iterdir()} == before


def test_the_file_is_that_of_other_commands_by_default(desk: Desk) -> None:
    assert f"{desk.config}: fine" in desk.says("check-config")


def test_a_state_folder_that_is_not_there_is_made_by_the_start(desk: Desk) -> None:
    shutil.rmtree(desk.database.parent)
    reported = desk.says("check-config", desk.config)
    assert "journal.sqlite, to be made by the first start, for 30 days" in reported
    assert "warning" not in reported
    assert not desk.database.parent.exists()


def test_a_state_folder_that_this_user_may_not_make_is_warned_of(desk: Desk) -> None:
    state = desk.database.parent
    shutil.rmtree(state)
    desk.give("check-config", desk.config)  # imports all that it takes
    opened_to_all(desk.folder)
    desk.folder.chmod(0o555)
    try:
        with as_user_without_rights():
            reported = desk.says("check-config", desk.config)
    finally:
        desk.folder.chmod(0o755)
    assert (
        f"warning: gate.state_dir: there is no folder {state}, and this user may not"
        in reported
    )
    assert f"install -d -m 700 -o USER {state}" in reported


def test_a_disk_that_large_messages_can_fill_is_warned_of(desk: Desk, state: Path) -> None:
    desk.configure("[gate]\n", "[gate]\nmax_spooled_octets = 1000000000000000000\n")
    reported = desk.says("check-config", desk.config)
    wanted = (
        "warning: gate.max_spooled_octets: large messages may take 1000000000000000000 octets"
    )
    assert f"{wanted}, and {state} has " in reported


def test_a_file_in_the_place_of_the_state_folder_is_reported(desk: Desk) -> None:
    state = desk.database.parent
    shutil.rmtree(state)
    state.write_text("")
    reported = desk.refuses("check-config", desk.config)
    assert (
        f"gate.state_dir: {state} is not a folder; name one that the gate may write" in reported
    )


def test_a_link_to_nothing_in_the_place_of_the_state_folder_is_reported(desk: Desk) -> None:
    state = desk.database.parent
    shutil.rmtree(state)
    state.symlink_to(desk.folder / "nothing")
    reported = desk.refuses("check-config", desk.config)
    assert f"gate.state_dir: {state} is not a folder; name one that " in reported


@pytest.fixture
def read_only_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk on which no unnamed file can be made."""
    open_ = os.open

    def refuse(path: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return open_(path, flags, *more, dir_fd=dir_fd)

    monkeypatch.setattr("smtpgate.gate.state_dir.os.open", refuse)


@pytest.mark.usefixtures("read_only_disk")
def test_a_state_folder_on_a_disk_that_is_read_only_is_reported(
    desk: Desk, state: Path
) -> None:
    reported = desk.refuses("check-config", desk.config)
    problem = f"gate.state_dir: {state} cannot be written: read-only file system; name one"
    assert problem in reported


@pytest.mark.usefixtures("read_only_disk")
def test_a_state_folder_that_no_user_can_make_is_an_error_as_at_the_start(desk: Desk) -> None:
    state = desk.database.parent
    shutil.rmtree(state)
    reported = desk.refuses("check-config", desk.config)
    problem = f"gate.state_dir: {state} cannot be made: read-only file system; name a folder"
    assert problem in reported


@pytest.mark.parametrize("mode", [0o777, 0o555])
def test_a_disk_without_unnamed_files_is_judged_by_modes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    state = desk.database.parent
    shutil.rmtree(state)
    desk.give("check-config", desk.config)  # imports all that it takes
    opened_to_all(desk.folder)
    monkeypatch.setattr("smtpgate.gate.state_dir.os.O_TMPFILE", os.O_DIRECTORY)  # EISDIR
    desk.folder.chmod(mode)
    try:
        with as_user_without_rights():
            reported = desk.says("check-config", desk.config)
    finally:
        desk.folder.chmod(0o755)
    assert ("this user may not make it" in reported) == (mode == 0o555)


def test_a_state_folder_that_this_user_may_not_write_is_reported(
    desk: Desk, state: Path
) -> None:
    desk.give("check-config", desk.config)  # imports all that it takes
    opened_to_all(desk.folder)
    state.chmod(0o555)
    try:
        with as_user_without_rights():
            reported = desk.refuses("check-config", desk.config)
    finally:
        state.chmod(0o755)
    assert f"gate.state_dir: this user may not read and write {state}; run the" in reported
    assert f"chown -R USER: {state}" in reported


@pytest.mark.parametrize("name", ["journal.key", "journal.sqlite", "directory.sqlite"])
def test_a_file_that_this_user_may_not_use_is_reported(
    desk: Desk, state: Path, name: str
) -> None:
    desk.give("check-config", desk.config)  # imports all that it takes
    opened_to_all(desk.folder)
    (state / name).chmod(0o000)
    with as_user_without_rights():
        reported = desk.refuses("check-config", desk.config)
    assert (
        f"gate.state_dir: this user may not read and write {state / name}; run the command"
        in reported
    )


def _give_to_nobody(desk: Desk, state: Path) -> None:
    opened_to_all(desk.folder)
    for path in (state, *state.iterdir()):
        os.chown(path, NOBODY, NOBODY)


@needs_root
def test_root_learns_that_the_owner_of_the_state_folder_may_not_write_it(
    desk: Desk, state: Path
) -> None:
    _give_to_nobody(desk, state)
    state.chmod(0o500)
    reported = desk.says("check-config", desk.config)
    user = pwd.getpwuid(NOBODY).pw_name
    assert f"warning: gate.state_dir: {user} may not read and write {state}; if" in reported
    assert f"chown -R {user}: {state} && chmod 700 {state}" in reported
    assert reported.count("warning: gate.state_dir") == 1


@needs_root
def test_root_learns_that_the_owner_of_the_state_folder_finds_no_way_to_it(
    desk: Desk, state: Path
) -> None:
    _give_to_nobody(desk, state)
    desk.folder.chmod(0o700)
    reported = desk.says("check-config", desk.config)
    assert f" may not enter {desk.folder}, and so not use {state}; name another" in reported


@needs_root
def test_root_learns_that_the_user_of_the_unit_may_not_make_the_state_folder(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = desk.database.parent
    shutil.rmtree(state)
    opened_to_all(desk.folder)
    desk.folder.chmod(0o755)
    assert "state_dir" not in desk.says("check-config", desk.config), "there is no such user"
    user = pwd.getpwuid(NOBODY).pw_name
    monkeypatch.setattr("smtpgate.gate.state_dir.USER_OF_UNIT", user)
    missing = f"warning: gate.state_dir: there is no folder {state}, and {user} may not make it"
    assert missing in desk.says("check-config", desk.config)
    state.mkdir(mode=0o700)
    closed = f"warning: gate.state_dir: {user} may not read and write {state}; if the gate"
    assert closed in desk.says("check-config", desk.config)
    (state / "ledger.sqlite").touch()
    assert "state_dir" not in desk.says("check-config", desk.config), "root's gate uses it"


def test_the_user_and_the_folder_of_the_unit_are_known() -> None:
    unit = (ROOT / "systemd/smtpgate.service").read_text().splitlines()
    assert f"User={USER_OF_UNIT}" in unit
    assert f"StateDirectory={FOLDER_OF_UNIT.relative_to('/var/lib')}" in unit


@needs_root
def test_a_file_of_another_owner_than_its_folder_is_warned_of(desk: Desk, state: Path) -> None:
    _give_to_nobody(desk, state)
    journal = state / "journal.sqlite"
    os.chown(journal, 0, 0)
    reported = desk.says("check-config", desk.config)
    assert f"warning: gate.state_dir: {journal} belongs to root, and its folder to " in reported
    assert f": {journal}" in reported.partition("; chown ")[2]
    assert reported.count("warning: gate.state_dir") == 1


def test_a_damaged_journal_is_reported_with_the_way_out(desk: Desk, state: Path) -> None:
    journal = state / "journal.sqlite"
    journal.write_bytes(b"no database " * 1000)
    reported = desk.refuses("check-config", desk.config)
    assert f"journal: {journal}: is no SQLite database, or is damaged;" in reported
    assert "move it away with its -wal and -shm, and the gate makes a new one" in reported


@pytest.mark.parametrize("page", ["journal_meta", "records", "usage"])
def test_a_journal_with_a_damaged_page_is_reported(desk: Desk, state: Path, page: str) -> None:
    journal = state / "journal.sqlite"
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name LIKE ?"
        (root,) = connection.execute(query, [f"%{page}"]).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with journal.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    assert "is damaged; restore a backup" in desk.refuses("check-config", desk.config)


def test_a_journal_that_mail_does_not_wait_for_is_warned_of(desk: Desk, state: Path) -> None:
    desk.configure("[limits]", '[journal]\non_failure = "allow"\n[limits]')
    (state / "journal.sqlite").write_bytes(b"no database " * 1000)
    reported = desk.says("check-config", desk.config)
    assert f"warning: journal: {state}/journal.sqlite: is no SQLite database" in reported


def test_a_journal_without_its_key_is_reported(desk: Desk, state: Path) -> None:
    (state / "journal.key").unlink()
    reported = desk.refuses("check-config", desk.config)
    assert f"journal: {state}/journal.key: is missing" in reported
    assert "put it back from a backup" in reported
    assert not (state / "journal.key").exists()


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("0001", "is at revision 0001, and this version upgrades from revision"),
        ("9999", "was last used by a later version of smtpgate (its revision 9999"),
    ],
)
def test_a_journal_of_another_version_is_reported(
    desk: Desk, state: Path, revision: str, says: str
) -> None:
    with closing(sqlite3.connect(state / "journal.sqlite")) as connection, connection:
        connection.execute("UPDATE journal_version SET version_num = ?", [revision])
    assert says in desk.refuses("check-config", desk.config)


def test_a_journal_that_the_next_start_upgrades_is_reported(desk: Desk, state: Path) -> None:
    (state / "journal.sqlite").write_bytes(b"")
    reported = desk.says("check-config", desk.config)
    assert "journal.sqlite, to be upgraded by the next start, for 30 days" in reported


def test_a_missing_configuration_at_the_usual_path_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "smtpgate.toml"
    monkeypatch.setattr(terminal, "DEFAULT_CONFIG", absent)
    with pytest.raises(typer.Exit):
        terminal.loaded_config(absent)
    wanted = f"there is no configuration {absent}: name another file, or make one with"
    assert capsys.readouterr().err == f"{wanted} `smtpgate init'\n"
