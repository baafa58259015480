"""``smtpgate policy check-access``: the users that can send with an identity."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from smtpgate.cli import app
from tests.support.policy_world import write_world
from tests.support.rows import rows
from tests.support.world import DELEGATE, IDENTITY, OWNER

MAILER = f"arn:aws:iam::{DELEGATE}:user/mailer"
ALERTS = f"arn:aws:iam::{DELEGATE}:user/robots/alerts"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose documents are applied."""
    config = write_world(tmp_path_factory.mktemp("worlds"))
    words = ["apply", str(config.parent / "directory"), "--config", str(config)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return config


def check(config: Path, from_: str, *arguments: str) -> Result:
    words = ["policy", "check-access", "--config", str(config), "--from", from_, *arguments]
    return CliRunner().invoke(app, words)


def senders(config: Path, from_: str, *arguments: str) -> dict[str, list[str]]:
    result = check(config, from_, "--json", *arguments)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return {row["sender"]: row["conditions"] for row in rows if row["identity"] == IDENTITY}


OWN: dict[str, list[str]] = {
    f"arn:aws:iam::{OWNER}:root": [],
    f"arn:aws:iam::{OWNER}:user/own": [],
}


def test_who_may_send_in_any_case_has_no_conditions(config: Path) -> None:
    assert senders(config, "marketing+x@ses-example.com") == {
        **OWN,
        f"arn:aws:iam::{DELEGATE}:root": [],
        MAILER: [],
    }


def test_conditions_on_other_keys_than_from_are_reported_in_words(config: Path) -> None:
    assert senders(config, "marketing+alerts@ses-example.com")[ALERTS] == [
        "aws:SourceIp is in `192.0.2.0/24'"
    ]
    assert senders(config, "press@ses-example.com") == {
        **OWN,
        MAILER: [
            "aws:CurrentTime is before `2027-07-01T00:00:00Z' and every ses:Recipients is like "
            "`*@example.net'"
        ],
    }


def test_a_deny_on_a_more_specific_identity_leaves_its_owner_alone(config: Path) -> None:
    assert senders(config, "ceo@ses-example.com") == {f"arn:aws:iam::{OWNER}:root": []}
    assert senders(config, "nobody@ses-example.com") == OWN


def test_an_identity_is_named_by_name_or_arn(config: Path) -> None:
    every = json.loads(check(config, "ceo@ses-example.com", "--json").stdout)
    assert {row["identity"] for row in every} == {IDENTITY, _address("ceo")}
    for name in ("ceo@ses-example.com", _address("ceo")):
        rows = json.loads(
            check(config, "ceo@ses-example.com", "--json", "--identity", name).stdout
        )
        assert {row["identity"] for row in rows} == {_address("ceo")}


def _address(local_part: str) -> str:
    return IDENTITY.replace("ses-example", f"{local_part}@ses-example")


def test_the_table_says_by_which_statements(config: Path) -> None:
    result = check(config, "press@ses-example.com")
    assert result.exit_code == 0
    assert MAILER in result.stdout
    assert "statement `PressUntil' of policy `press'" in result.stdout
    assert "in any case" in result.stdout


def test_an_address_of_nobody_is_said_to_be_one(config: Path) -> None:
    result = check(config, "a@example.org")
    assert (result.exit_code, result.stdout) == (0, "nobody can send as a@example.org\n")


@rows(
    "from_, identity, status",
    [
        ("a@b@c", "ses-example.com", 2),
        ("a@ses-example.com, b@ses-example.com", "ses-example.com", 2),
        ("a@ses-example.com", "example.org", 1),
        ("a@ses-example.com", "-", 1),
        ("a@ses-example.com", "arn:aws:ses", 1),
    ],
)
def test_what_cannot_be_asked_is_refused(
    config: Path, from_: str, identity: str, status: int
) -> None:
    assert check(config, from_, "--identity", identity).exit_code == status
