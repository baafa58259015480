"""``smtpgate directory``: the database itself."""

import sqlite3
from pathlib import Path

import pytest

from smtpgate.directory.schema import HEAD, metadata
from tests.support.desk import DOMAIN, Desk, grant
from tests.support.world import DELEGATE, OWNER


@pytest.fixture(scope="module")
def furnished(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with something of every kind."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), sqlite_template)
    for account_id in (OWNER, DELEGATE):
        desk.says("account", "create", account_id)
    desk.says("user", "create", f"{DELEGATE}/mailer", "--tag", "team=news")
    desk.says("key", "create", f"{DELEGATE}/mailer", "--expires", "90d", "--from", "192.0.2.1")
    desk.says("identity", "register", DOMAIN)
    desk.says("identity", "policy", "put", DOMAIN, "marketing", "-", stdin=grant())
    desk.says("dkim", "generate", DOMAIN, "--algorithm", "ed25519")
    return desk.database


@pytest.fixture
def office(furnished: Path, tmp_path: Path) -> Desk:
    """A desk with a copy of that directory."""
    return Desk(tmp_path, furnished)


def rows_of(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with sqlite3.connect(database) as connection:
        found = {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in metadata.tables
        }
    connection.close()
    return found


def test_the_status_says_what_is_in_it(office: Desk) -> None:
    shown = office.answers("directory", "status")
    counts = ("accounts", "users", "access_keys", "identities", "dkim_keys")
    assert [shown[name] for name in counts] == [2, 1, 1, 1, 1]
    assert shown["database"] == str(office.database)
    assert (shown["kind"], shown["revision"]) == ("sqlite", HEAD)
    assert (shown["master_keys"], shown["current_master_key"]) == (["m1"], "m1")
    assert shown["last_change"] == office.answers("audit", "list", "--limit", "1")[0]["seq"]
    card = office.says("directory", "status")
    assert str(office.database) in card


def test_the_status_of_an_empty_directory_has_no_last_change(desk: Desk) -> None:
    assert desk.answers("directory", "status")["last_change"] is None


def test_the_tables_are_made_upgraded_and_then_left_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None)
    told = desk.says("directory", "upgrade")
    assert told == f"the tables are made, at revision {HEAD}\n"
    assert desk.says("directory", "upgrade") == f"the tables are at revision {HEAD} already\n"
    assert desk.database.stat().st_mode & 0o077 == 0
    desk.sql("UPDATE directory_version SET version_num = '9999'")
    told = desk.refuses("directory", "upgrade")
    assert "was last used by a later version of smtpgate" in told
    assert "a later version of smtpgate" in desk.refuses("account", "list")


def test_a_copy_has_every_row(office: Desk, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "directory.sqlite"
    told = office.says("directory", "copy", f"sqlite:///{target}")
    assert "accounts: 2 rows\n" in told
    assert f"the directory is in {target} too" in told
    assert rows_of(target) == rows_of(office.database)
    assert target.stat().st_mode & 0o077 == 0


def test_a_copy_warns_of_what_is_changed_after_it(office: Desk, tmp_path: Path) -> None:
    newest = office.answers("audit", "list", "--limit", "1")[0]["seq"]
    done = office.give("directory", "copy", f"sqlite:///{tmp_path / 'copy.sqlite'}")
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
    office: Desk, words: tuple[str, ...]
) -> None:
    office.sql("UPDATE directory_version SET version_num = '9999'")
    told = office.refuses(*words)
    assert "was last used by a later version of smtpgate (its revision 9999" in told


def test_a_copy_serves_in_the_place_of_the_first(office: Desk, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    office.says("directory", "copy", "--url-file", office.file("url", f"sqlite:///{target}\n"))
    before = office.says("identity", "show", DOMAIN)
    office.configure("[directory]", f'[directory]\nurl = "sqlite:///{target}"')
    assert office.says("identity", "show", DOMAIN) == before
    newest = office.answers("audit", "list", "--limit", "1")[0]["seq"]
    office.says("account", "pause", OWNER, "--reason", "a test")
    assert office.answers("audit", "list", "--limit", "1")[0]["seq"] == newest + 1


def test_nothing_is_copied_over_another_directory(office: Desk, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'copy.sqlite'}"
    office.says("directory", "copy", url)
    assert "holds a directory already" in office.refuses("directory", "copy", url)
    itself = f"sqlite:///{office.database}"
    assert "holds a directory already" in office.refuses("directory", "copy", itself)


def test_many_rows_are_copied_page_by_page(office: Desk, tmp_path: Path) -> None:
    office.fill_with_users(OWNER, 1203)
    target = tmp_path / "copy.sqlite"
    assert "users: 1204 rows\n" in office.says("directory", "copy", f"sqlite:///{target}")
    assert rows_of(target)["users"] == rows_of(office.database)["users"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
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
def test_what_cannot_be_done_is_told(
    office: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    told = office.refuses("directory", *words, status=status)
    assert says in told
    assert ":b@" not in told


def test_a_password_is_read_from_a_file_and_not_told(office: Desk) -> None:
    file = office.file("url", "postgresql://a:geheim@127.0.0.1:9/x\n")
    file.chmod(0o600)
    told = office.refuses("directory", "copy", "--url-file", file)
    assert "geheim" not in told


# -- backup ------------------------------------------------------------------------------------


def test_a_backup_has_everything_and_opens_as_a_directory(office: Desk) -> None:
    copy = office.folder / "copy.sqlite"
    assert str(copy) in office.says("backup", str(copy))
    assert copy.stat().st_mode & 0o777 == 0o600
    assert rows_of(copy) == rows_of(office.database)
    for name in ("", "-wal", "-shm"):
        office.database.with_name(f"{office.database.name}{name}").unlink(missing_ok=True)
    copy.rename(office.database)
    assert office.answers("directory", "status")["identities"] == 1


def test_a_backup_overwrites_nothing_unless_that_is_forced(office: Desk) -> None:
    there = office.folder / "there"
    there.write_text("mine")
    told = office.refuses("backup", str(there))
    assert "name another file, or replace it with --force" in told
    assert there.read_text() == "mine"
    office.says("backup", str(there), "--force")
    assert rows_of(there) == rows_of(office.database)
    assert there.stat().st_mode & 0o777 == 0o600
    assert not list(office.folder.glob(".there*"))


def test_a_backup_makes_its_folder(office: Desk) -> None:
    file = office.folder / "no" / "folder" / "copy.sqlite"
    office.says("backup", str(file))
    assert file.parent.stat().st_mode & 0o777 == 0o700
    told = office.refuses("backup", "/proc/no/folder")
    assert "/proc/no/folder: no such file or directory" in told.lower()


# -- another master key ------------------------------------------------------------------------


def test_a_new_master_key_seals_everything_and_the_old_one_can_go(office: Desk) -> None:
    before = rows_of(office.database)
    line = office.says("directory", "new-master-key", "m2")
    assert line.startswith("m2 ")
    file = office.folder / "master.key"
    old = file.read_text()
    file.write_text(line + old)
    told = office.says("directory", "rekey")
    assert "1 access key sealed" in told
    assert "1 DKIM key sealed" in told
    after = rows_of(office.database)
    assert after["access_keys"] != before["access_keys"]
    assert len(after["master_keys"]) == 1
    file.write_text(line)
    assert office.answers("directory", "status")["current_master_key"] == "m2"
    assert office.answers("audit", "list", "--limit", "1")[0]["action"] == "rekey"
    assert "0 access keys sealed" in office.says("directory", "rekey")
    file.write_text(old)
    told = office.refuses("directory", "status")
    assert "holds secrets under master key m2, which is not in the master key file" in told


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
