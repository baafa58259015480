"""``smtpgate simulate`` at the command line: requests on standard input, or one message."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from smtpgate.cli import app
from tests.support.policy_world import write_world
from tests.support.rows import rows
from tests.support.world import DELEGATE, IDENTITY, OWNER

GRANT = {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose documents are applied."""
    config = write_world(tmp_path_factory.mktemp("worlds"))
    words = ["apply", str(config.parent / "directory"), "--config", str(config)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return config


def run(*arguments: str | Path, stdin: str | bytes = b"") -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)], input=stdin)


def answers(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def about_directory(context: dict[str, Any], **members: object) -> str:
    request = {
        "id": 1,
        "sender": {"account": DELEGATE, "user": "mailer"},
        "identity_arn": IDENTITY,
        "context": context,
        **members,
    }
    return json.dumps(request)


def try_one(config: Path, *arguments: str) -> Result:
    return run("--config", config, *arguments)


FROM = {"ses:FromAddress": "marketing+x@ses-example.com", "ses:Recipients": "jane@example.net"}


def test_every_line_is_answered_in_order_though_one_is_malformed() -> None:
    request = {"sender": {"account": DELEGATE}, "identity_arn": IDENTITY}
    lines = [
        json.dumps({"id": 1, **request, "identity_policies": [GRANT]}),
        "no JSON",
        json.dumps({"id": 3, **request, "identity_policies": []}),
    ]
    found = answers(run(stdin="\n".join(lines)))
    assert [(answer["id"], answer["outcome"]) for answer in found] == [
        (1, "allow"),
        (None, "invalid"),
        (3, "implicit-deny"),
    ]


def test_octets_that_are_no_text_do_not_end_the_stream() -> None:
    found = answers(run(stdin=b'\xff\xfe\r\n{"id": 2}\r\n'))
    assert [answer["id"] for answer in found] == [None, 2]


def test_a_request_without_policies_needs_a_configuration() -> None:
    (answer,) = answers(run(stdin=about_directory(FROM)))
    assert answer["outcome"] == "invalid"
    assert "--config FILE" in answer["reasons"][0]


@rows(
    "context, members, outcome",
    [
        (FROM, {}, "allow"),
        (FROM, {"sender": {"account": DELEGATE}}, "allow"),
        (
            {**FROM, "ses:Recipients": ["us..er@example.net", "Postmaster", "a@b_c"]},
            {},
            "allow",
        ),
        (FROM, {"sender": {"account": DELEGATE, "user": "idle"}}, "implicit-deny"),
        (FROM, {"sender": {"account": OWNER, "user": "own"}}, "allow"),
        (FROM, {"sender": {"account": "777777777777", "user": "mailer"}}, "implicit-deny"),
        ({**FROM, "ses:FromAddress": "ceo@ses-example.com"}, {}, "explicit-deny"),
        ({**FROM, "ses:FromAddress": "sales@ses-example.com"}, {}, "implicit-deny"),
        ({**FROM, "ses:FromAddress": "press@ses-example.com"}, {}, "allow"),
        (
            {**FROM, "ses:FromAddress": "press@ses-example.com", "aws:CurrentTime": "2028-01"},
            {},
            "implicit-deny",
        ),
        (
            {
                **FROM,
                "ses:FromAddress": [
                    "marketing@ses-example.com",
                    "sales@ses-example.com",
                ],
            },
            {},
            "implicit-deny",
        ),
        # A null reverse-path is derived away: press has no condition on it.
        ({**FROM, "ses:FeedbackAddress": None}, {}, "allow"),
        # MAIL FROM must be covered too.
        ({**FROM, "ses:FeedbackAddress": "bounces@example.org"}, {}, "implicit-deny"),
        (FROM, {"identity_arn": IDENTITY.replace("ses-example", "example")}, "implicit-deny"),
        (FROM, {"action": "ses:SendEmail"}, "invalid"),
        (FROM, {"sender": {"account": DELEGATE, "user": "nobody"}}, "invalid"),
        ({}, {}, "invalid"),
        ({**FROM, "ses:FromAddress": "no address"}, {}, "invalid"),
        ({**FROM, "aws:CurrentTime": "soon"}, {}, "invalid"),
        ({**FROM, "aws:CurrentTime": "999999999999"}, {}, "invalid"),
        ({**FROM, "ses:FeedbackAddress": ["a@example.com", "b@example.com"]}, {}, "invalid"),
        ({**FROM, "ses:FromDisplayName": ["a", "b"]}, {}, "invalid"),
    ],
)
def test_without_policies_the_directory_decides_as_the_gate_would(
    config: Path, context: dict[str, Any], members: dict[str, Any], outcome: str
) -> None:
    line = about_directory({"aws:CurrentTime": "2027-01-31T12:00Z", **context}, **members)
    (answer,) = answers(run("--config", config, stdin=line))
    assert answer["outcome"] == outcome, answer
    assert answer["reasons"]


def test_a_given_key_stands_in_the_place_of_the_derived_one(config: Path) -> None:
    sender = {"account": DELEGATE, "user": "alerts"}
    context = {**FROM, "ses:FromAddress": "marketing+alerts@ses-example.com"}
    lines = [
        about_directory(context, sender=sender),
        about_directory({**context, "aws:SourceIp": "192.0.2.9"}, sender=sender),
    ]
    found = answers(run("--config", config, stdin="\n".join(lines)))
    assert [answer["outcome"] for answer in found] == ["implicit-deny", "allow"]


def test_a_user_with_a_path_is_found_by_name_and_by_arn(config: Path) -> None:
    arn = f"arn:aws:iam::{DELEGATE}:user/robots/alerts"
    context = {
        **FROM,
        "ses:FromAddress": "marketing+alerts@ses-example.com",
        "aws:SourceIp": "192.0.2.9",
    }
    lines = [
        about_directory(context, sender={"account": DELEGATE, "user": "alerts"}),
        about_directory(context, sender={"account": DELEGATE, "user_arn": arn}),
    ]
    found = answers(run("--config", config, stdin="\n".join(lines)))
    assert [answer["outcome"] for answer in found] == ["allow", "allow"]


def test_one_message_that_may_be_sent_is_shown_as_a_tree(config: Path) -> None:
    message = ["--from", "Marketing <marketing@ses-example.com>", "--to", "jane@example.net"]
    result = try_one(config, "--as", f"{DELEGATE}/mailer", "--identity", IDENTITY, *message)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "allow",
        "├── sender arn:aws:iam::999999999999:user/mailer",
        f"├── from marketing@ses-example.com: {IDENTITY} (named)",
        f"├── source marketing@ses-example.com: {IDENTITY} (inherited)",
        f"├── return-path marketing@ses-example.com: {IDENTITY} (inherited)",
        "└── why",
        "    ├── user policies allow it: statement `MaySend' of policy `may-send'",
        "    └── identity policies allow it: statement `AuthorizeMarketer' of policy "
        "`marketing'",
    ]


def test_one_message_that_is_denied_fails_and_says_why(config: Path) -> None:
    message = ["--from", "press@ses-example.com", "--to", "joe@example.org"]
    time = ["--at", "2027-01-31T12:00:00Z"]
    result = try_one(config, "--as", f"{DELEGATE}/mailer", *message, *time)
    assert result.exit_code == 1
    assert result.stdout.startswith("implicit-deny\n")


def test_a_message_may_be_tried_at_another_time_and_from_elsewhere(config: Path) -> None:
    alerts = ["--as", f"{DELEGATE}/alerts", "--from", "marketing+alerts@ses-example.com"]
    message = [*alerts, "--to", "joe@example.net", "--mail-from", "<>", "--at", "2026-12-01"]
    assert try_one(config, *message, "--source-ip", "192.0.2.1").exit_code == 0
    assert try_one(config, *message, "--source-ip", "203.0.113.1").exit_code == 1


@rows(
    "arguments, status, says",
    [
        (["--as", DELEGATE], 2, "--from"),
        (["--as", DELEGATE, "--from", "a@example.com, B <b@example.com"], 2, "--to"),
        (["--as", DELEGATE, "--from", "a@b@c", "--to", "a@example.com"], 2, "--from:"),
        (["--from", "a@example.com"], 2, "--as"),
        (["--as", "1/2", "--from", "a@example.com", "--to", "x@example.com"], 1, "has no 1/2"),
        (["--as", DELEGATE, "--from", "a@example.com", "--to", "x"], 1, "is not an address"),
    ],
)
def test_options_that_describe_no_message_are_reported(
    config: Path, arguments: list[str], status: int, says: str
) -> None:
    result = try_one(config, *arguments)
    assert result.exit_code == status
    assert says in result.output


def test_a_configuration_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    assert run("--config", tmp_path / "none.toml").exit_code == 1
    config = tmp_path / "smtpgate.toml"
    write_world(tmp_path)
    (tmp_path / "directory" / "may-send.json").unlink()
    assert run("--config", config).exit_code == 1


def test_one_message_is_about_the_directory_that_is_configured_where_none_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = Path("/nonexistent/smtpgate.toml")
    module = importlib.import_module("smtpgate.cli.simulate")
    monkeypatch.setattr(module, "DEFAULT_CONFIG", there)
    result = run("--as", DELEGATE, "--from", "a@example.com", "--to", "x@example.com")
    assert result.exit_code == 1
    assert f"{there}: cannot be read" in result.stderr
