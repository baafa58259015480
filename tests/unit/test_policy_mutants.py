"""Cases for mistakes that no other test would notice."""

import json

import pytest

from smtpgate.core.policy import Caller, PolicyError, Request, evaluate, parse_policy


def refusal(principal: str) -> str:
    text = '{"Statement": {"Effect": "Allow", "Principal": {"AWS": "%s"}, "Action": "*", '
    with pytest.raises(PolicyError) as raised:
        parse_policy(text % principal + '"Resource": "*"}}', kind="identity", name="x")
    return str(raised.value)


@pytest.mark.parametrize(
    "principal",
    [
        "9999999999990",
        "arn:aws:iam::999999999999:root/x",
        "arn:aws:iam::999999999999:user/a b",
        "arn:aws:iam::999999999999:role/R:x",
        "arn:aws:sts::999999999999:assumed-role/R/s/t",
        "arn:aws:sts::999999999999:federated-user/a/b",
    ],
)
def test_a_principal_with_something_after_it_is_none(principal: str) -> None:
    assert "is not a principal" in refusal(principal)


@pytest.mark.parametrize(
    ("operator", "outcome"), [("StringEquals", "implicit-deny"), ("StringNotEquals", "allow")]
)
def test_a_variable_without_a_value_is_not_the_same_as_empty_text(
    operator: str, outcome: str
) -> None:
    condition = json.dumps({operator: {"ses:FromDisplayName": "${aws:username}"}})
    text = (
        '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", '
        '"Action": "*", "Resource": "*", "Condition": ' + condition + "}}"
    )
    root = Caller("999999999999", "arn:aws:iam::999999999999:root", is_root=True)
    arn = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
    decision = evaluate(
        Request(root, "ses:SendRawEmail", arn, {"ses:fromdisplayname": ("",)}),
        identity_policies=[parse_policy(text, kind="identity", name="x")],
        user_policies=[],
    )
    assert decision.outcome == outcome
