"""Policy documents: the accepted, the refused with their errors, and attachments."""

import json
from typing import Any

import pytest

from smtpgate.core.policy import (
    PolicyError,
    Problem,
    attachment_problems,
    is_policy_name,
    parse_policy,
    print_policy,
)
from tests.support.cases import load_cases
from tests.support.rows import rows
from tests.support.world import DELEGATE

IDENTITY = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
GOOD = {"Effect": "Allow", "Principal": "*", "Action": "ses:SendRawEmail", "Resource": IDENTITY}


def by_note(case: dict[str, Any]) -> str:
    return str(case["note"])


def document_of(case: dict[str, Any]) -> str:
    if "document" in case:
        return str(case["document"])
    statement = {**GOOD, **json.loads(case.get("statement", "{}"))}
    if "condition" in case:
        statement["Condition"] = json.loads(case["condition"])
    version = {"Version": case["version"]} if "version" in case else {}
    return json.dumps({**version, "Statement": statement})


@rows("case", load_cases("policy/40-refused.toml"), ids=by_note)
def test_what_is_not_understood_is_refused_with_its_place(case: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(document_of(case), kind=case.get("kind", "identity"), name="p")
    assert str(caught.value).splitlines() == case["says"]


@rows("case", load_cases("policy/41-accepted.toml"), ids=by_note)
def test_what_the_grammar_allows_is_read(case: dict[str, Any]) -> None:
    kind = case.get("kind", "identity")
    policy = parse_policy(case["document"], kind=kind, name="p")
    assert (policy.name, policy.kind) == ("p", kind)
    assert parse_policy(print_policy(policy), kind=kind, name="p") == policy
    assert parse_policy(case["document"].encode(), kind=kind, name="p") == policy


def test_octets_that_are_no_text_are_refused_at_their_place() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(b'{"Id":\n "\xff"}', kind="user", name="p")
    assert caught.value.problems == (Problem("line 2 column 3", "not UTF-8"),)


def test_a_text_that_is_no_unicode_is_refused_at_its_place() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy('{"Id": "\ud800"}', kind="user", name="p")
    assert caught.value.problems == (Problem("line 1 column 9", "not Unicode"),)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 26 + "]" * 26, '[1,{"a":' * 13 + "}]" * 13]
)
def test_a_document_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, kind="user", name="p")
    assert "nested more than 24 deep" in str(caught.value)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    many = json.dumps({"Statement": [{**GOOD, "Action": ["ses:*"]}] * 30})
    assert len(parse_policy(many, kind="identity", name="p").statements) == 30


def test_a_policy_tells_its_elements() -> None:
    policy = parse_policy(
        json.dumps({"Version": "2012-10-17", "Id": "I", "Statement": [{**GOOD, "Sid": "S"}]}),
        kind="identity",
        name="marketing",
    )
    statement = policy.statements[0]
    assert (policy.version, policy.id, statement.sid) == ("2012-10-17", "I", "S")
    assert (statement.effect, statement.actions) == ("Allow", ("ses:SendRawEmail",))
    assert statement.principals is not None
    assert statement.principals.aws == ("*",)


def test_a_printed_policy_keeps_every_value() -> None:
    condition = {
        "NumericLessThan": {"aws:EpochTime": 1.50},
        "Bool": {"aws:SecureTransport": True},
    }
    statement = {**GOOD, "Sid": "S", "Principal": {"AWS": [DELEGATE, "*"]}}
    source = json.dumps({"Statement": {**statement, "Condition": condition}})
    printed = json.loads(print_policy(parse_policy(source, kind="identity", name="p")))
    assert printed["Statement"][0] == {
        **statement,
        "Condition": {
            "NumericLessThan": {"aws:EpochTime": "1.5"},
            "Bool": {"aws:SecureTransport": "true"},
        },
    }


def attached(statement: dict[str, Any], octets: int = 100, siblings: int = 0) -> list[str]:
    policy = parse_policy(json.dumps({"Statement": [statement]}), kind="identity", name="p")
    problems = attachment_problems(
        policy, identity_arn=IDENTITY, source_octets=octets, siblings=siblings
    )
    return [str(problem) for problem in problems]


def test_a_policy_about_its_identity_can_be_attached() -> None:
    assert attached(GOOD, octets=4096, siblings=19) == []


# https://docs.aws.amazon.com/ses/latest/dg/policy-anatomy.html, "Policy requirements"
def test_more_than_4096_octets_cannot_be_attached() -> None:
    assert attached(GOOD, octets=4097) == ["document: has 4097 octets, and 4096 are allowed"]


def test_the_21st_policy_cannot_be_attached() -> None:
    assert attached(GOOD, siblings=20) == [
        "document: the identity has 20 policies, the most it may have"
    ]


@pytest.mark.parametrize(
    "resource",
    [
        "*",
        "arn:aws:ses:us-east-1:888888888888:identity/*",
        f"{IDENTITY}.org",
        [IDENTITY, IDENTITY],
    ],
)
def test_a_policy_about_something_else_cannot_be_attached(resource: object) -> None:
    problems = attached({**GOOD, "Resource": resource})
    assert len(problems) == 1
    assert problems[0].startswith(f"Statement[0].Resource: must be exactly {IDENTITY}")


def test_a_policy_with_not_resource_cannot_be_attached() -> None:
    statement = {key: value for key, value in GOOD.items() if key != "Resource"}
    problems = attached({**statement, "NotResource": IDENTITY})
    assert problems[0].startswith("Statement[0].NotResource: is not allowed here")


def test_a_user_policy_cannot_be_attached() -> None:
    text = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": IDENTITY}})
    policy = parse_policy(text, kind="user", name="p")
    problems = attachment_problems(policy, identity_arn=IDENTITY, source_octets=1, siblings=0)
    assert [str(problem) for problem in problems] == [
        "document: is a user policy and names no principals"
    ]


@pytest.mark.parametrize("name", ["a", "Marketing_2026-q1", "x" * 64])
def test_names_of_policies_are_letters_digits_dashes_and_underscores(name: str) -> None:
    assert is_policy_name(name)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a.json", "é", "a\n"])
def test_other_names_are_refused(name: str) -> None:
    assert not is_policy_name(name)
