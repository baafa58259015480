"""``smtpgate account``: tenants made, listed, limited, paused and deleted."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

TABLE = """\
┏━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━┓
┃ account      ┃ name            ┃ status ┃ 24 h      ┃ a second ┃ created              ┃
┡━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━┩
│ 888888888888 │ Identity owner  │ active │ default   │ default  │ YYYY-MM-DD hh:mm:ssZ │
│ 999999999999 │ Delegate sender │ paused │ unlimited │ 2.5      │ YYYY-MM-DD hh:mm:ssZ │
└──────────────┴─────────────────┴────────┴───────────┴──────────┴──────────────────────┘
"""


@pytest.fixture(scope="module")
def furnished(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The announcement's two accounts; the delegate is paused and has limits of its own."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), sqlite_template)
    desk.says("account", "create", OWNER, "--name", "Identity owner")
    limits = ("--max-24h-send", "unlimited", "--max-send-rate", "2.5")
    desk.says("account", "create", DELEGATE, "--name", "Delegate sender", *limits)
    desk.says("account", "pause", DELEGATE, "--reason", "too many complaints")
    return desk.database


@pytest.fixture
def two(furnished: Path, tmp_path: Path) -> Desk:
    """A desk with a copy of that directory."""
    return Desk(tmp_path, furnished)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_accounts_are_listed_as_a_table(two: Desk) -> None:
    shown = two.says("account", "list")
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "YYYY-MM-DD hh:mm:ssZ", shown) == TABLE


def test_accounts_are_listed_as_json_with_times_in_utc(two: Desk) -> None:
    owner, delegate = two.answers("account", "list")
    made = datetime.fromisoformat(owner.pop("created_at"))
    assert made.tzinfo == UTC
    assert owner == {
        "id": OWNER,
        "name": "Identity owner",
        "status": "active",
        "paused_reason": None,
        "sending": True,
        "organization": None,
        "contact": None,
        "max_24h_send": None,
        "max_send_rate_per_s": None,
    }
    assert (delegate["max_24h_send"], delegate["max_send_rate_per_s"]) == (-1, 2.5)
    assert (delegate["status"], delegate["paused_reason"]) == ("paused", "too many complaints")


@rows(
    "options, found",
    [
        (("--search", "owner"), [OWNER]),
        (("--search", "9999"), [DELEGATE]),
        (("--search", "%"), []),
        (("--status", "paused"), [DELEGATE]),
        (("--status", "active"), [OWNER]),
        (("--limit", "1"), [OWNER]),
    ],
)
def test_a_list_can_be_narrowed(two: Desk, options: tuple[str, ...], found: list[str]) -> None:
    assert ids(two.answers("account", "list", *options)) == found


def test_an_empty_list_is_reported_in_words_and_is_an_empty_list_for_programs(
    desk: Desk,
) -> None:
    assert desk.says("account", "list") == "no accounts\n"
    assert desk.answers("account", "list") == []


def test_an_account_without_a_number_gets_a_free_one(desk: Desk) -> None:
    made = desk.answers("account", "create", "--name", "Someone")
    assert re.fullmatch("[0-9]{12}", made["id"])
    assert desk.answers("account", "show", made["id"])["name"] == "Someone"


def test_an_account_is_shown_with_how_much_it_has(two: Desk) -> None:
    two.says("user", "create", f"{OWNER}/own")
    two.says("key", "create", OWNER)
    shown = two.answers("account", "show", OWNER)
    assert (shown["users"], shown["access_keys"], shown["identities"]) == (1, 1, 0)
    card = two.says("account", "show", OWNER)
    assert re.search(r"^max 24h send +default *$", card, re.MULTILINE)
    card = two.says("account", "show", DELEGATE)
    assert re.search(r"^max 24h send +unlimited *$", card, re.MULTILINE)


def test_limits_name_and_organization_are_changed_one_by_one(two: Desk) -> None:
    two.says("account", "set", DELEGATE, "--max-24h-send", "50000")
    two.says("account", "set", DELEGATE, "--max-send-rate", "default")
    two.says("account", "set", DELEGATE, "--organization", "o-a1b2c3d4e5", "--name", "New")
    shown = two.answers("account", "show", DELEGATE)
    assert (shown["max_24h_send"], shown["max_send_rate_per_s"]) == (50000, None)
    assert (shown["organization"], shown["name"]) == ("o-a1b2c3d4e5", "New")
    two.says("account", "set", DELEGATE, "--organization", "none")
    two.says("account", "set", DELEGATE, "--contact", "admin@example.com")
    assert two.answers("account", "show", DELEGATE)["contact"] == "admin@example.com"
    two.says("account", "set", DELEGATE, "--contact", "none")
    assert two.answers("account", "show", DELEGATE)["contact"] is None
    assert two.answers("account", "show", DELEGATE)["organization"] is None


def test_a_paused_account_is_resumed(two: Desk) -> None:
    two.says("account", "resume", DELEGATE)
    shown = two.answers("account", "show", DELEGATE)
    assert (shown["status"], shown["paused_reason"]) == ("active", None)


def test_an_account_is_deleted_when_it_has_nothing_any_more(two: Desk) -> None:
    two.says("user", "create", f"{OWNER}/own")
    reported = two.refuses("account", "delete", OWNER, "--yes")
    assert "still has users" in reported
    two.says("user", "delete", f"{OWNER}/own", "--yes")
    two.says("account", "delete", OWNER, "--yes")
    assert ids(two.answers("account", "list")) == [DELEGATE]


def test_deleting_needs_a_yes_where_nobody_can_be_asked(two: Desk) -> None:
    reported = two.refuses("account", "delete", OWNER, status=2)
    assert f"this deletes account {OWNER}: say --yes, since there is no terminal" in reported
    assert len(two.answers("account", "list")) == 2


@pytest.mark.slow
def test_deleting_asks_on_a_terminal(two: Desk) -> None:
    status, shown = two.at_terminal("account", "delete", OWNER, typed="n\n")
    assert (status, "Go on?" in shown, "nothing was changed" in shown) == (1, True, True)
    assert len(two.answers("account", "list")) == 2
    status, shown = two.at_terminal("account", "delete", OWNER, typed="y\n")
    assert (status, f"account {OWNER} was deleted" in shown) == (0, True)
    assert ids(two.answers("account", "list")) == [DELEGATE]


@rows(
    "words, status, says",
    [
        (("create", OWNER), 1, f"account {OWNER} already exists"),
        (("create", "12"), 2, "12 digits"),
        (
            ("create", "--max-24h-send", "many"),
            2,
            "`many' is not a number, unlimited",
        ),
        (("create", "--max-24h-send", "-2"), 1, "must be 0 or more"),
        (("create", "--organization", "x"), 1, "an organization id is"),
        (("create", "--contact", "x"), 1, "`x' is no mail address"),
        (("show", "123456789012"), 1, "there is no account 123456789012"),
        (("set", OWNER), 2, "say what to change"),
        (("pause", "123456789012", "--reason", "x"), 1, "there is no account 123456789012"),
        (("pause", OWNER), 2, "--reason"),
        (("list", "--limit", "0"), 2, "--limit"),
        (("list", "--status", "lost"), 2, "lost"),
    ],
)
def test_what_cannot_be_done_is_reported(
    two: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    assert says in two.refuses("account", *words, status=status)


def test_the_configuration_is_named_by_an_option_too(two: Desk) -> None:
    elsewhere = {"SMTPGATE_CONFIG": "/nonexistent.toml"}
    listed = two.answers("account", "list", "--config", two.config, environment=elsewhere)
    assert len(listed) == 2
    assert "/nonexistent.toml" in two.refuses("account", "list", environment=elsewhere)


def test_a_question_makes_no_directory_and_a_change_does(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None)
    reported = desk.refuses("account", "list")
    assert "there is no" in reported
    assert "smtpgate directory upgrade" in reported
    assert not desk.database.parent.exists()
    desk.says("account", "create", OWNER)
    assert ids(desk.answers("account", "list")) == [OWNER]


def test_a_directory_that_cannot_be_opened_is_reported_without_a_traceback(two: Desk) -> None:
    two.configure('"master.key"', '"lost.key"')
    assert "directory.master_key_file: " in two.refuses("account", "list")
    two.configure('"lost.key"', '"master.key"')
    two.file("master.key", "m2 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").chmod(0o600)
    assert "master key m1" in two.refuses("account", "create", "123456789012")
    two.file("master.key", "m1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").chmod(0o600)
    two.database.write_bytes(b"no database" * 100)
    assert "is no SQLite database" in two.refuses("account", "list")


def test_control_characters_reach_no_terminal(two: Desk) -> None:
    # The directory takes no such name any more; an older one may hold it.
    two.sql("UPDATE accounts SET name = 'a' || char(27) || '[2Jb'")
    shown = two.says("account", "list")
    assert "\x1b" not in shown
    assert r"a\x1b[2Jb" in shown
