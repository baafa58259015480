"""``simulate`` and ``policy check-access`` with a directory; they leave no trace."""

import json
from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.world import DELEGATE, DOMAIN, OWNER, grant
from tests.support.world import IDENTITY as ARN

DOCUMENT = f"""\
[accounts.{OWNER}.identities."ses-example.com"]
verified = true
[accounts.{OWNER}.users.own]
policies = {{ may-send = "may-send.json" }}
"""
MAY_SEND = '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
MESSAGE = ("--from", "a@ses-example.com", "--to", "jane@example.net")


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The announcement's two accounts in the database."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("identity", "register", DOMAIN, "--trust")
    desk.says("identity", "policy", "put", DOMAIN, "grant", "-", stdin=grant())
    desk.says("user", "create", f"{DELEGATE}/mailer", "--path", "/team/")
    return desk.database


@pytest.fixture
def new(tmp_path: Path) -> Desk:
    """A gate that was never started, with documents to apply at its first start."""
    desk = Desk(tmp_path, None)
    (tmp_path / "documents").mkdir()
    desk.file("documents/accounts.toml", DOCUMENT)
    desk.file("documents/may-send.json", MAY_SEND)
    desk.configure("[directory]", '[directory]\napply = "documents"')
    return desk


def senders(desk: Desk, from_: str = "a@ses-example.com") -> list[str]:
    rows = desk.answers("policy", "check-access", "--from", from_)
    return [row["sender"].partition("::")[2] for row in rows]


# -- the database ------------------------------------------------------------------------------


def test_the_database_is_asked(stocked: Desk) -> None:
    words = ("simulate", "--as", f"{DELEGATE}/mailer", *MESSAGE)
    assert stocked.says(*words).startswith("allow\n")
    assert senders(stocked) == [
        f"{OWNER}:root",
        f"{DELEGATE}:root",
        f"{DELEGATE}:user/team/mailer",
    ]
    stocked.says("user", "policy", "delete", f"{DELEGATE}/mailer", "may-send", "--yes")
    result = stocked.give(*words)
    assert (result.exit_code, result.stdout[:14]) == (1, "implicit-deny\n")
    assert senders(stocked) == [f"{OWNER}:root", f"{DELEGATE}:root"]


@rows(
    "user, is_there",
    [
        ({}, True),
        ({"user": "mailer"}, True),
        ({"user_arn": f"arn:aws:iam::{DELEGATE}:user/team/mailer"}, True),
        ({"user_arn": f"arn:aws:iam::{DELEGATE}:user/mailer"}, False),
        ({"user": "Mailer"}, False),
        ({"user": "nobody"}, False),
    ],
)
def test_a_sender_is_found_by_its_exact_name_or_arn(
    stocked: Desk, user: dict[str, str], is_there: bool
) -> None:
    context = {"ses:FromAddress": "a@ses-example.com", "ses:Recipients": "jane@example.net"}
    request = {
        "sender": {"account": DELEGATE, **user},
        "identity_arn": ARN,
        "context": context,
    }
    lines = stocked.says("simulate", stdin="\n".join([json.dumps(request)] * 2)).splitlines()
    outcomes = [json.loads(line)["outcome"] for line in lines]
    assert outcomes == (["allow"] if is_there else ["invalid"]) * 2


@pytest.mark.slow
def test_more_senders_than_a_page_holds_are_all_asked_about(stocked: Desk) -> None:
    stocked.fill_with_users(OWNER, 1203)
    policy = MAY_SEND.replace("'", "''")
    stocked.sql(
        "INSERT INTO policies SELECT account_id, 'user', '', key, 'p', ?, 1, created_at, 'x' "
        "FROM users WHERE key LIKE 'user-%'",
        [(policy,)],
    )
    found = senders(stocked)
    assert len(set(found)) == len(found) == 1203 + 3
    assert found[:2] == [f"{OWNER}:root", f"{OWNER}:user/user-00000"]


def test_a_paused_account_is_known_to_be_paused(stocked: Desk) -> None:
    stocked.says("account", "pause", DELEGATE, "--reason", "unpaid")
    result = stocked.give("simulate", "--as", f"{DELEGATE}/mailer", *MESSAGE)
    assert (result.exit_code, "unpaid" in result.stdout) == (1, True)
    assert senders(stocked) == [f"{OWNER}:root"]


def test_a_database_that_cannot_be_used_is_reported(stocked: Desk) -> None:
    words = ("simulate", "--as", DELEGATE, *MESSAGE)
    stocked.sql("UPDATE directory_version SET version_num = '0001'")
    assert "is at revision 0001" in stocked.refuses(*words)
    stocked.database.write_bytes(b"no database" * 100)
    assert "is no SQLite database" in stocked.refuses(*words)


def test_a_policy_that_cannot_be_read_lets_nobody_through(stocked: Desk) -> None:
    stocked.sql("UPDATE policies SET document = '{}' WHERE kind = 'user'")
    reported = stocked.refuses("simulate", "--as", f"{DELEGATE}/mailer", *MESSAGE)
    assert "a user policy cannot be used" in reported
    assert "a user policy" in stocked.refuses("policy", "check-access", *MESSAGE[:2])


def test_control_characters_of_a_policy_reach_no_terminal(stocked: Desk) -> None:
    condition = {"StringLike": {"ses:FromDisplayName": "\x1b[31mx"}}
    file = stocked.file("red.json", grant(Condition=condition))
    stocked.says("identity", "policy", "delete", DOMAIN, "grant", "--yes")
    for words in (
        ("policy", "lint", file),
        ("identity", "policy", "put", DOMAIN, "red", file),
        ("policy", "check-access", "--from", MESSAGE[1]),
        ("simulate", "--as", f"{DELEGATE}/mailer", *MESSAGE),
    ):
        reported = stocked.give(*words).output
        assert "\x1b" not in reported
        assert r"\x1b[31mx" in reported


# -- before the first start --------------------------------------------------------------------


def test_before_the_first_start_the_documents_are_asked_and_nothing_is_made(new: Desk) -> None:
    before = sorted(new.folder.rglob("*"))
    assert new.says("simulate", "--as", f"{OWNER}/own", *MESSAGE).startswith("allow\n")
    assert senders(new) == [f"{OWNER}:root", f"{OWNER}:user/own"]
    assert sorted(new.folder.rglob("*")) == before


def test_a_database_with_a_url_of_its_own_is_not_made_either(new: Desk, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.sqlite"
    new.configure("[directory]", f'[directory]\nurl = "sqlite:///{file}"')
    assert senders(new) == [f"{OWNER}:root", f"{OWNER}:user/own"]
    assert not file.exists()


def test_documents_that_are_wrong_are_reported(new: Desk) -> None:
    new.file("documents/may-send.json", "{}")
    assert "may-send" in new.refuses("simulate", "--as", f"{OWNER}/own", *MESSAGE)


def test_without_documents_there_is_nothing_to_ask(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None)
    reported = desk.refuses("simulate", "--as", OWNER, *MESSAGE)
    assert "there is no" in reported
    assert "smtpgate directory upgrade" in reported
    assert not desk.database.parent.exists()
