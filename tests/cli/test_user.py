"""``smtpgate user``: who acts for an account."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.world import DELEGATE, MAILER, OWNER


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts; the delegate has users."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("user", "create", MAILER, "--path", "/team-a/", "--tag", "team=news")
    desk.says("user", "create", f"{DELEGATE}/Alerts", "--no-policy")
    desk.says("user", "create", f"{OWNER}/own")
    return desk.database


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['account']}/{row['name']}" for row in rows]


def test_a_user_is_made_with_a_policy_that_lets_it_send(stocked: Desk) -> None:
    shown = stocked.answers("user", "show", MAILER)
    assert shown["arn"] == f"arn:aws:iam::{DELEGATE}:user/team-a/mailer"
    assert shown["tags"] == {"team": "news"}
    assert [policy["name"] for policy in shown["policies"]] == ["may-send"]
    assert shown["access_keys"] == []
    assert stocked.answers("user", "show", f"{DELEGATE}/alerts")["policies"] == []


def test_the_arn_of_a_new_user_is_reported(stocked: Desk) -> None:
    reported = stocked.says("user", "create", f"{OWNER}/press")
    assert (
        reported
        == f"user {OWNER}/press was created, with the ARN arn:aws:iam::{OWNER}:user/press\n"
    )


def test_a_user_is_shown_with_its_policies_and_keys(stocked: Desk) -> None:
    key_id = stocked.answers("key", "create", MAILER)["id"]
    shown = stocked.says("user", "show", MAILER)
    for words in ("may-send", key_id, "team=news", "/team-a/"):
        assert words in shown
    assert [key["id"] for key in stocked.answers("user", "show", MAILER)["access_keys"]] == [
        key_id
    ]


@rows(
    "options, found",
    [
        ((), [f"{OWNER}/own", f"{DELEGATE}/Alerts", MAILER]),
        (("--account", DELEGATE), [f"{DELEGATE}/Alerts", MAILER]),
        (("--search", "AL"), [f"{DELEGATE}/Alerts"]),
        (("--search", "a", "--limit", "1"), [f"{DELEGATE}/Alerts"]),
        (("--account", "123456789012"), []),
    ],
)
def test_users_are_listed(stocked: Desk, options: tuple[str, ...], found: list[str]) -> None:
    assert names(stocked.answers("user", "list", *options)) == found
    shown = stocked.says("user", "list", *options)
    assert all(name in shown for name in found)
    assert found or shown == "no users\n"


@pytest.mark.slow
def test_more_users_than_a_page_holds_are_all_listed_once(stocked: Desk) -> None:
    """A page is 500; a directory with that many is made behind the command's back."""
    stocked.fill_with_users(OWNER, 1203)
    listed = stocked.answers("user", "list", "--account", OWNER)
    assert len({row["name"] for row in listed}) == len(listed) == 1204
    assert len(stocked.answers("user", "list", "--limit", "501")) == 501
    table = stocked.says("user", "list", "--account", OWNER)
    assert table.count("┃ user ") == 3


def test_path_and_tags_are_changed(stocked: Desk) -> None:
    stocked.says("user", "set", MAILER, "--path", "/", "--tag", "a=1", "--tag", "b=x=y")
    shown = stocked.answers("user", "show", MAILER)
    assert (shown["path"], shown["tags"]) == ("/", {"a": "1", "b": "x=y"})
    stocked.says("user", "set", MAILER, "--no-tags")
    assert stocked.answers("user", "show", MAILER)["tags"] == {}


def test_a_user_is_deleted_with_its_keys(stocked: Desk) -> None:
    stocked.says("key", "create", MAILER)
    assert "--yes" in stocked.refuses("user", "delete", MAILER, status=2)
    stocked.says("user", "delete", MAILER, "--yes")
    assert stocked.answers("key", "list") == []
    assert f"there is no user {MAILER}" in stocked.refuses("user", "show", MAILER)


@rows(
    "words, status, says",
    [
        (("create", MAILER), 1, f"user {MAILER} already exists"),
        (("create", f"{DELEGATE}/MAILER"), 1, f"user {MAILER} already exists"),
        (("create", "123456789012/x"), 1, "there is no account 123456789012"),
        (("create", OWNER), 2, f"`{OWNER}' names no user: write ACCOUNT/NAME"),
        (("create", f"{OWNER}/a b"), 2, "a user name has"),
        (("create", "12/a"), 2, "12 digits"),
        (("create", f"{OWNER}/x", "--path", "team"), 1, "a user's path"),
        (("create", f"{OWNER}/x", "--tag", "team"), 2, "`team' is not KEY=VALUE"),
        (("set", MAILER), 2, "say what to change"),
        (("set", MAILER, "--no-tags", "--tag", "a=b"), 2, "say what to change"),
        (("set", f"{OWNER}/x", "--no-tags"), 1, f"there is no user {OWNER}/x"),
    ],
)
def test_what_cannot_be_done_is_reported(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    assert says in stocked.refuses("user", *words, status=status)
