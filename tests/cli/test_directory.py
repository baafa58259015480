"""``smtpgate directory``: the database itself."""

import sqlite3
from pathlib import Path

import pytest

from smtpgate.directory.schema import HEAD, metadata
from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.world import DELEGATE, DOMAIN, OWNER, grant


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with something of every kind."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("user", "create", f"{DELEGATE}/mailer", "--tag", "team=news")
    desk.says("key", "create", f"{DELEGATE}/mailer", "--expires", "90d", "--from", "192.0.2.1")
    desk.says("identity", "register", DOMAIN)
    desk.says("identity", "policy", "put", DOMAIN, "marketing", "-", stdin=grant())
    desk.says("dkim", "generate", DOMAIN, "--algorithm", "ed25519")
    return desk.database


def rows_of(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with sqlite3.connect(database) as connection:
        found = {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in metadata.tables
        }
    connection.close()
    return found


def test_the_status_says_what_is_in_it(stocked: Desk) -> None:
    shown = stocked.answers("directory", "status")
    counts = ("accounts", "users", "access_keys", "identities", "dkim_keys")
    assert [shown[name] for name in counts] == [2, 1, 1, 1, 1]
    assert shown["database"] == str(stocked.database)
    assert (shown["kind"], shown["revision"]) == ("sqlite", HEAD)
    assert (shown["master_keys"], shown["current_master_key"]) == (["m1"], "m1")
    assert shown["last_change"] == stocked.answers("audit", "list", "--limit", "1")[0]["seq"]
    card = stocked.says("directory", "status")
    assert str(stocked.database) in card


def test_the_status_of_an_empty_directory_has_no_last_change(desk: Desk) -> None:
    assert desk.answers("directory", "status")["last_change"] is None


def test_the_tables_are_made_upgraded_and_then_left_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None)
    reported = desk.says("directory", "upgrade")
    assert reported == f"the tables are made, at revision {HEAD}\n"
    assert desk.says("directory", "upgrade") == f"the tables are at revision {HEAD} already\n"
    assert desk.database.stat().st_mode & 0o077 == 0
    desk.sql("UPDATE directory_version SET version_num = '9999'")
    reported = desk.refuses("directory", "upgrade")
    assert "was last used by a later version of smtpgate" in reported
    assert "a later version of smtpgate" in desk.refuses("account", "list")


def test_a_copy_has_every_row(stocked: Desk, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "directory.sqlite"
    reported = stocked.says("directory", "copy", f"sqlite:///{target}")
    assert "accounts: 2 rows\n" in reported
    assert f"the directory is in {target} too" in reported
    assert rows_of(target) == rows_of(stocked.database)
    assert target.stat().st_mode & 0o077 == 0


def test_a_copy_warns_of_what_is_changed_after_it(stocked: Desk, tmp_path: Path) -> None:
    newest = stocked.answers("audit", "list", "--limit", "1")[0]["seq"]
    done = stocked.give("directory", "copy", f"sqlite:///{tmp_path / 'copy.sqlite'}")
    assert f"changes after entry {newest} of the audit log are in the old" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("directory", "status"),
        ("account", "list"),
        ("account", "pause", OWNER, "--reason", "x"),
        ("directory", "upgrade"),
        ("directory", "rekey"),
    ],
)
def test_tables_of_a_later_version_are_called_later_by_every_command(
    stocked: Desk, words: tuple[str, ...]
) -> None:
    stocked.sql("UPDATE directory_version SET version_num = '9999'")
    reported = stocked.refuses(*words)
    assert "was last used by a later version of smtpgate (its revision 9999" in reported


def test_a_copy_serves_in_the_place_of_the_first(stocked: Desk, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    stocked.says(
        "directory", "copy", "--url-file", stocked.file("url", f"sqlite:///{target}\n")
    )
    before = stocked.says("identity", "show", DOMAIN)
    stocked.configure("[directory]", f'[directory]\nurl = "sqlite:///{target}"')
    assert stocked.says("identity", "show", DOMAIN) == before
    newest = stocked.answers("audit", "list", "--limit", "1")[0]["seq"]
    stocked.says("account", "pause", OWNER, "--reason", "a test")
    assert stocked.answers("audit", "list", "--limit", "1")[0]["seq"] == newest + 1


def test_nothing_is_copied_over_another_directory(stocked: Desk, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'copy.sqlite'}"
    stocked.says("directory", "copy", url)
    assert "holds a directory already" in stocked.refuses("directory", "copy", url)
    itself = f"sqlite:///{stocked.database}"
    assert "holds a directory already" in stocked.refuses("directory", "copy", itself)


def test_many_rows_are_copied_page_by_page(stocked: Desk, tmp_path: Path) -> None:
    stocked.fill_with_users(OWNER, 1203)
    target = tmp_path / "copy.sqlite"
    assert "users: 1204 rows\n" in stocked.says("directory", "copy", f"sqlite:///{target}")
    assert rows_of(target)["users"] == rows_of(stocked.database)["users"]


@rows(
    "words, status, says",
    [
        (("copy",), 2, "name the other database by its URL, or by --url-file"),
        (("copy", "sqlite:////x", "--url-file", "/x"), 2, "name the other database by its URL"),
        (("copy", "mysql://x/y"), 2, "must begin with sqlite:/// or postgresql://"),
        (("copy", "sqlite:///"), 2, "names no file"),
        (("copy", "postgresql://a:b@db.example.com/x"), 2, "the URL holds a password"),
        (("copy", "--url-file", "/nonexistent"), 2, "/nonexistent cannot be read"),
        (("copy", "sqlite:////proc/x/y"), 1, "/proc/x/y: "),
        (("copy", "postgresql://127.0.0.1:9/x"), 1, "127.0.0.1"),
    ],
)
def test_what_cannot_be_done_is_reported(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    reported = stocked.refuses("directory", *words, status=status)
    assert says in reported
    assert ":b@" not in reported


def test_a_password_is_read_from_a_file_and_not_shown(stocked: Desk) -> None:
    file = stocked.file("url", "postgresql://a:geheim@127.0.0.1:9/x\n")
    file.chmod(0o600)
    reported = stocked.refuses("directory", "copy", "--url-file", file)
    assert "geheim" not in reported


# -- backup ------------------------------------------------------------------------------------


def test_a_backup_has_everything_and_opens_as_a_directory(stocked: Desk) -> None:
    copy = stocked.folder / "copy.sqlite"
    assert str(copy) in stocked.says("backup", str(copy))
    assert copy.stat().st_mode & 0o777 == 0o600
    assert rows_of(copy) == rows_of(stocked.database)
    for name in ("", "-wal", "-shm"):
        stocked.database.with_name(f"{stocked.database.name}{name}").unlink(missing_ok=True)
    copy.rename(stocked.database)
    assert stocked.answers("directory", "status")["identities"] == 1


def test_a_backup_overwrites_nothing_unless_that_is_forced(stocked: Desk) -> None:
    there = stocked.folder / "there"
    there.write_text("mine")
    reported = stocked.refuses("backup", str(there))
    assert "name another file, or replace it with --force" in reported
    assert there.read_text() == "mine"
    stocked.says("backup", str(there), "--force")
    assert rows_of(there) == rows_of(stocked.database)
    assert there.stat().st_mode & 0o777 == 0o600
    assert not list(stocked.folder.glob(".there*"))


def test_a_backup_makes_its_folder(stocked: Desk) -> None:
    file = stocked.folder / "no" / "folder" / "copy.sqlite"
    stocked.says("backup", str(file))
    assert file.parent.stat().st_mode & 0o777 == 0o700
    reported = stocked.refuses("backup", "/proc/no/folder")
    assert "/proc/no/folder: no such file or directory" in reported.lower()


# -- another master key ------------------------------------------------------------------------


def test_a_new_master_key_seals_everything_and_the_old_one_can_go(stocked: Desk) -> None:
    before = rows_of(stocked.database)
    line = stocked.says("directory", "new-master-key", "m2")
    assert line.startswith("m2 ")
    file = stocked.folder / "master.key"
    old = file.read_text()
    file.write_text(line + old)
    reported = stocked.says("directory", "rekey")
    assert "1 access key encrypted" in reported
    assert "1 DKIM key encrypted" in reported
    after = rows_of(stocked.database)
    assert after["access_keys"] != before["access_keys"]
    assert len(after["master_keys"]) == 1
    file.write_text(line)
    assert stocked.answers("directory", "status")["current_master_key"] == "m2"
    assert stocked.answers("audit", "list", "--limit", "1")[0]["action"] == "rekey"
    assert "0 access keys encrypted" in stocked.says("directory", "rekey")
    file.write_text(old)
    reported = stocked.refuses("directory", "status")
    assert "holds secrets under master key m2, which is not in the master key file" in reported


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("two words", "is not 32 octets"),
        ("m/2", "an id has 1 to 32 letters"),
        ("", "an id has 1 to 32 letters"),
    ],
)
def test_a_bad_name_for_a_master_key_is_refused(desk: Desk, name: str, says: str) -> None:
    assert says in desk.refuses("directory", "new-master-key", name, status=2)
