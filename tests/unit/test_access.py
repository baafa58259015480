"""The open conditions before a caller is allowed."""

import json
from typing import Any

from smtpgate.core.policy import Caller, Policy, PolicyKind, Request, parse_policy
from smtpgate.core.policy.access import Access, possible_access
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

IDENTITY = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
MAY = {"Effect": "Allow", "Action": "*", "Resource": "*"}
GRANT = {**MAY, "Principal": {"AWS": DELEGATE}}
KNOWN = {"ses:fromaddress": ("ceo@example.com",), "aws:username": ("mailer",)}


def policy(kind: PolicyKind, *statements: dict[str, Any]) -> Policy:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return parse_policy(json.dumps(document), kind=kind, name=kind)


def access(
    identity: list[dict[str, Any]],
    user: list[dict[str, Any]],
    *,
    account: str = DELEGATE,
    specific: list[dict[str, Any]] | None = None,
) -> Access | None:
    caller = Caller(account, f"arn:aws:iam::{account}:user/mailer", is_root=False)
    return possible_access(
        Request(caller, "ses:SendRawEmail", IDENTITY, KNOWN),
        identity_policies=[policy("identity", *identity)] if identity else [],
        user_policies=[policy("user", *user)] if user else [],
        more_specific=[("x", [policy("identity", *specific)])] if specific else [],
    )


def left(condition: dict[str, Any]) -> tuple[str, ...] | None:
    found = access([{**GRANT, "Condition": condition}], [MAY])
    return None if found is None else found.identity[0].left


@rows(
    "condition, words",
    [
        ({"StringEquals": {"ses:FromAddress": "ceo@example.com"}}, ()),
        ({"StringEquals": {"ses:FromAddress": "cfo@example.com"}}, None),
        ({"StringEquals": {"ses:FromAddress": "${aws:username}@example.com"}}, None),
        ({"StringLike": {"ses:FromAddress": "${*}${aws:username, 'x'}"}}, None),
        (
            {"StringEquals": {"ses:FromAddress": "${ses:FromDisplayName}@example.com"}},
            ("ses:FromAddress is `${ses:FromDisplayName}@example.com'",),
        ),
        # Facts not known of the caller are absent, and so are keys that no submission has.
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, None),
        ({"Null": {"aws:PrincipalOrgID": "true"}}, ()),
        ({"StringEquals": {"other:Key": "x"}}, None),
        ({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}, ()),
        # Never holds without a set operator.
        ({"StringLike": {"ses:Recipients": "*"}}, None),
        ({"Null": {"ses:Recipients": "false"}}, ()),
        ({"Null": {"ses:Recipients": "true"}}, None),
        ({"Null": {"ses:FromAddress": "true"}}, None),
        ({"Null": {"ses:FromDisplayName": "true"}}, ("ses:FromDisplayName is absent",)),
        ({"Null": {"ses:FromDisplayName": "false"}}, ("ses:FromDisplayName is present",)),
        (
            {
                "ForAnyValue:StringNotLikeIfExists": {
                    "ses:Recipients": ["a", "b", "c", "d", "e"]
                }
            },
            ("some ses:Recipients is not like `a' or `b' or `c' or 2 more, if there is any",),
        ),
        (
            {
                "Bool": {"aws:SecureTransport": "true"},
                "DateGreaterThanEquals": {"aws:CurrentTime": "2027-01-01T00:00Z"},
            },
            (
                "aws:SecureTransport is `true'",
                "aws:CurrentTime is not before `2027-01-01T00:00Z'",
            ),
        ),
    ],
)
def test_what_is_known_is_decided_and_the_rest_reported(
    condition: dict[str, Any], words: tuple[str, ...] | None
) -> None:
    assert left(condition) == words


def test_both_accounts_must_be_able_to_allow() -> None:
    assert access([GRANT], []) is None
    assert access([], [MAY]) is None
    found = access([GRANT], [MAY])
    assert found is not None
    assert (len(found.user), len(found.identity), found.unless) == (1, 1, ())


def test_in_one_account_the_user_policies_or_a_grant_to_the_user_or_everybody_suffice() -> None:
    own = OWNER
    arn = "arn:aws:iam::888888888888:user/mailer"
    assert access([], [MAY], account=own) is not None
    assert access([{**GRANT, "Principal": {"AWS": arn}}], [], account=own) is not None
    assert access([{**GRANT, "Principal": "*"}], [], account=own) is not None
    assert access([{**GRANT, "Principal": {"AWS": OWNER}}], [], account=own) is None
    assert access([{**GRANT, "Principal": "*"}], []) is None


def test_a_deny_without_open_conditions_ends_it_and_another_is_reported() -> None:
    deny = {**GRANT, "Effect": "Deny", "Principal": "*"}
    assert access([GRANT, deny], [MAY]) is None
    assert access([GRANT], [MAY], specific=[deny]) is None
    assert access([GRANT], [MAY, {**MAY, "Effect": "Deny"}]) is None
    late = {**deny, "Condition": {"DateGreaterThan": {"aws:CurrentTime": "2027-01-01"}}}
    for found in (access([GRANT, late], [MAY]), access([GRANT], [MAY], specific=[late])):
        assert found is not None
        assert found.unless[0].left == ("aws:CurrentTime is after `2027-01-01'",)


def test_a_deny_about_something_else_does_not_matter() -> None:
    deny = {**GRANT, "Effect": "Deny"}
    other = {"StringEquals": {"ses:FromAddress": "cfo@example.com"}}
    found = access([GRANT, {**deny, "Condition": other}], [MAY])
    assert found is not None
    assert found.unless == ()
    assert access([GRANT, {**deny, "Action": "ses:SendEmail"}], [MAY]) is not None
    assert access([GRANT, {**deny, "Resource": f"{IDENTITY}.org"}], [MAY]) is not None
