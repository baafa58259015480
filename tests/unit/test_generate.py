"""Policies from options, at the function and at the command line."""

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from smtpgate.cli import app
from smtpgate.cli.generate import ask
from smtpgate.core.policy.generate import PolicyOptions, PolicyOptionsError, generate_policy
from tests.support.rows import rows
from tests.support.world import DELEGATE, IDENTITY

MARKETING = ("--from-with-tags", "marketing@ses-example.com")


def generate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["policy", "generate", *arguments])


def statement(*arguments: str) -> dict[str, Any]:
    result = generate("--identity", IDENTITY, "--principal", DELEGATE, *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)["Statement"][0]
    return found


def test_the_announcements_policy_is_written_as_it_was_meant() -> None:
    assert statement(*MARKETING, "--sid", "AuthorizeMarketer") == {
        "Sid": "AuthorizeMarketer",
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": "ses:SendRawEmail",
        "Resource": IDENTITY,
        "Condition": {
            "StringLike": {
                "ses:FromAddress": ["marketing@ses-example.com", "marketing+*@ses-example.com"]
            }
        },
    }


def test_every_condition_has_a_flag() -> None:
    made = statement(
        *("--from", "news@ses-example.com", "--display-name", "News"),
        *("--recipient-domain", "example.net", "--subdomains"),
        *("--feedback", "bounces@ses-example.com", "--source-network", "192.0.2.0/24"),
        *("--not-before", "2026-01-01T00:00Z", "--until", "2027-01-01T00:00Z"),
    )
    assert made["Condition"] == {
        "StringEquals": {
            "ses:FromAddress": "news@ses-example.com",
            "ses:FromDisplayName": "News",
            "ses:FeedbackAddress": "bounces@ses-example.com",
        },
        "ForAllValues:StringLike": {"ses:Recipients": ["*@example.net", "*@*.example.net"]},
        "Null": {"ses:Recipients": "false"},
        "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
        "DateGreaterThanEquals": {"aws:CurrentTime": "2026-01-01T00:00Z"},
        "DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00Z"},
    }


def test_a_grant_of_everything_has_no_condition() -> None:
    assert "Condition" not in statement()


def test_a_deny_is_for_everybody_and_minds_no_letter_case() -> None:
    made = json.loads(
        generate(
            *("--identity", IDENTITY, "--principal", "*", "--deny", "--sid", "NeverAsCeo"),
            *("--from-with-tags", "ceo@ses-example.com"),
        ).stdout
    )
    exact, patterns = made["Statement"]
    assert (exact["Principal"], exact["Effect"]) == ("*", "Deny")
    assert exact["Condition"] == {
        "StringEqualsIgnoreCase": {"ses:FromAddress": "ceo@ses-example.com"}
    }
    assert patterns["Sid"] == "NeverAsCeoPatterns"
    assert patterns["Condition"]["StringLike"]["ses:FromAddress"] == [
        "ceo+*@ses-example.com",
        '"ceo+*"@ses-example.com',
    ]


def options(**changes: Any) -> PolicyOptions:  # noqa: ANN401 - any member of PolicyOptions
    return PolicyOptions(**{"identity_arn": IDENTITY, "principals": (DELEGATE,), **changes})


@rows(
    "changes, problem",
    [
        ({"identity_arn": "ses-example.com"}, "identity: Invalid ARN <ses-example.com>."),
        ({"principals": ()}, "principal: the list is empty"),
        ({"principals": ("*",)}, "principal: an Allow for everyone is not generated"),
        (
            {"principals": ("arn:aws:iam::999999999999:user/*",)},
            "principal: `arn:aws:iam::999999999999:user/*' has a wildcard, which never matches "
            "inside a principal",
        ),
        (
            {"actions": ("ses:SendEmail",)},
            "action: submissions are checked against ses:SendRawEmail",
        ),
        ({"sid": "two words"}, "sid: `two words' must have only letters and digits"),
        (
            {"from_addresses": ("a@example.org",)},
            "`a@example.org' is not covered by ses-example.com",
        ),
        (
            {"from_domains": ("xses-example.com",)},
            "`xses-example.com' is not covered by ses-example.com",
        ),
        (
            {"from_addresses": ("a*b@ses-example.com",)},
            "From address `a*b@ses-example.com': has special characters; write a "
            "policy about it by hand",
        ),
        (
            {"from_addresses": ("a.+@ses-example.com",)},
            "From address `a.+@ses-example.com': has special characters; write a "
            "policy about it by hand",
        ),
        (
            {"tagged_addresses": ("a+b@ses-example.com",)},
            "From address `a+b@ses-example.com': already has a tag",
        ),
        (
            {"recipient_domains": ("localhost",)},
            "recipients' domain `localhost': is not a full domain name",
        ),
        (
            {"source_networks": ("192.0.2.0/33",)},
            "source network `192.0.2.0/33': is not a network",
        ),
        ({"until": "soon"}, "date `soon': write 2026-01-31T12:00:00Z"),
        (
            {"not_before": "2027-01-01", "until": "2027-01-01T00:00Z"},
            "the end is not after the beginning",
        ),
        ({"display_names": ("",)}, "display name: is empty"),
        (
            {"from_addresses": tuple(f"mailbox-{n}@ses-example.com" for n in range(150))},
            "the policy has 4901 octets, and a policy may have 4096: use fewer values",
        ),
    ],
)
def test_options_that_make_no_policy_are_reported(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PolicyOptionsError) as raised:
        generate_policy(options(**changes))
    assert problem in raised.value.problems


def test_an_address_identity_is_for_that_address_and_its_tags() -> None:
    arn = IDENTITY.replace("ses-example.com", "ceo@ses-example.com")
    tagged = options(identity_arn=arn, tagged_addresses=("ceo@ses-example.com",))
    assert "ceo+*@ses-example.com" in generate_policy(tagged)
    with pytest.raises(PolicyOptionsError, match=r"not covered by ceo@ses-example\.com"):
        generate_policy(options(identity_arn=arn, from_addresses=("cfo@ses-example.com",)))
    with pytest.raises(PolicyOptionsError, match=r"not covered by ceo@ses-example\.com"):
        generate_policy(options(identity_arn=arn, from_domains=("ses-example.com",)))


def test_problems_are_reported_one_a_line_and_nothing_is_written() -> None:
    result = generate("--identity", "x", "--principal", "y", *MARKETING)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 2


def test_questions_are_asked_on_a_terminal_only() -> None:
    result = generate("--interactive")
    assert result.exit_code == 2
    assert "terminal" in result.output


def test_answers_to_questions_make_the_same_policy_as_flags() -> None:
    replies = ["deny", IDENTITY, "*", "", "ceo@ses-example.com", "", "Boss, Chef"]
    replies += ["example.net", "", "", "yes", "", "2027-01-01T00:00Z"]
    asked = typer.Typer()
    found: list[PolicyOptions] = []
    asked.command()(lambda: found.append(ask(PolicyOptions(identity_arn="", principals=()))))
    result = CliRunner().invoke(asked, input="\n".join(replies) + "\n")
    assert result.exit_code == 0, result.output
    assert found == [
        PolicyOptions(
            identity_arn=IDENTITY,
            principals=("*",),
            effect="Deny",
            tagged_addresses=("ceo@ses-example.com",),
            display_names=("Boss", "Chef"),
            recipient_domains=("example.net",),
            with_subdomains=True,
            until="2027-01-01T00:00Z",
        )
    ]


def test_an_effect_is_allow_or_deny() -> None:
    asked = typer.Typer()
    asked.command()(lambda: ask(PolicyOptions(identity_arn="", principals=())))
    assert CliRunner().invoke(asked, input="perhaps\n").exit_code == 2
