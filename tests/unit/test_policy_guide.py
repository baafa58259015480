"""The policies of the guide: each is loaded, linted clean, and tried."""

import json
import re
from typing import Any, Final

from smtpgate.core.policy import (
    Caller,
    Policy,
    PolicyKind,
    Request,
    attachment_problems,
    evaluate,
    lint_policy,
    parse_policy,
)
from smtpgate.core.policy.keys import KEYS
from tests.support.reference import guide
from tests.support.rows import rows
from tests.support.world import DELEGATE, IDENTITY

GUIDE: Final = guide("policies")
EXAMPLES: dict[str, str] = {
    json.loads(text)["Statement"]["Sid"]: text
    for text in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
}
EVERYONE: Final = "everybody"
CONTEXT: Final[dict[str, tuple[str, ...]]] = {
    "ses:fromaddress": ("news@ses-example.com",),
    "ses:recipients": ("jane@example.net",),
    "ses:feedbackaddress": ("bounces@ses-example.com",),
    "aws:currenttime": ("2027-07-01T12:00:00Z",),
    "aws:sourceip": ("192.0.2.7",),
    "aws:username": ("mailer",),
    "aws:principalaccount": (DELEGATE,),
}
# The decision of each example on a request that differs from the usual one in these keys.
SAYS: Final[dict[str, list[tuple[dict[str, Any], str]]]] = {
    "AuthorizeMarketer": [
        ({"ses:fromaddress": ("marketing@ses-example.com",)}, "allow"),
        ({"ses:fromaddress": ("marketing+spring@ses-example.com",)}, "allow"),
        ({"ses:fromaddress": ("marketings@ses-example.com",)}, "implicit-deny"),
        ({"ses:fromaddress": ("ceo@ses-example.com",)}, "implicit-deny"),
    ],
    "WholeDomain": [
        ({}, "allow"),
        ({"user": "other"}, "implicit-deny"),
        ({"user": "Mailer"}, "implicit-deny"),
    ],
    "SummerCampaign": [
        ({"ses:fromaddress": ("summer@ses-example.com",)}, "allow"),
        (
            {
                "ses:fromaddress": ("summer@ses-example.com",),
                "aws:currenttime": ("2027-09-01T00:00:00Z",),
            },
            "implicit-deny",
        ),
    ],
    "CampaignsOnly": [
        ({"smtpgate:messagetag/campaign": ("spring",)}, "allow"),
        ({"smtpgate:messagetag/campaign": ("summer", "spring")}, "allow"),
        ({"smtpgate:messagetag/campaign": ("spring", "autumn")}, "implicit-deny"),
        ({}, "implicit-deny"),
    ],
    "OwnPeopleOnly": [
        (
            {
                "ses:fromaddress": ("intranet@ses-example.com",),
                "ses:recipients": ("a@ses-example.com", "b@hq.ses-example.com"),
            },
            "allow",
        ),
        (
            {
                "ses:fromaddress": ("intranet@ses-example.com",),
                "ses:recipients": ("a@ses-example.com", "jane@example.net"),
            },
            "implicit-deny",
        ),
        (
            {"ses:fromaddress": ("intranet@ses-example.com",), "ses:recipients": ()},
            "implicit-deny",
        ),
    ],
    "FromOurNetwork": [
        ({"ses:fromaddress": ("alerts@ses-example.com",)}, "allow"),
        (
            {
                "ses:fromaddress": ("alerts@ses-example.com",),
                "aws:sourceip": ("203.0.113.7",),
            },
            "implicit-deny",
        ),
        (
            {"ses:fromaddress": ("alerts@ses-example.com",), "ses:feedbackaddress": ()},
            "implicit-deny",
        ),
    ],
    "AsTheShop": [
        (
            {
                "ses:fromaddress": ("shop@ses-example.com",),
                "ses:fromdisplayname": ("Example Shop",),
            },
            "allow",
        ),
        ({"ses:fromaddress": ("shop@ses-example.com",)}, "implicit-deny"),
    ],
    "OurOrganization": [
        ({"aws:principalorgid": ("o-a1b2c3d4e5",)}, "allow"),
        ({"aws:principalorgid": ("o-x1b2c3d4e5",)}, "implicit-deny"),
        ({}, "implicit-deny"),
    ],
    "NeverAsTheBoard": [
        ({}, "allow"),
        ({"ses:fromaddress": ("Board@ses-example.com",)}, "explicit-deny"),
    ],
    "MaySend": [({}, "allow")],
    "AsItself": [
        ({}, "implicit-deny"),
        ({"ses:fromaddress": ("mailer@ses-example.com",)}, "allow"),
    ],
}
EVERYBODY = parse_policy(
    '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}',
    kind="identity",
    name=EVERYONE,
)


def kind_of(sid: str) -> PolicyKind:
    return "identity" if '"Principal"' in EXAMPLES[sid] else "user"


def policy(sid: str) -> Policy:
    return parse_policy(EXAMPLES[sid], kind=kind_of(sid), name=sid)


def test_every_example_is_tried() -> None:
    assert set(EXAMPLES) == set(SAYS)


@rows("sid", EXAMPLES)
def test_an_example_lints_clean_and_can_be_attached(sid: str) -> None:
    assert not lint_policy(policy(sid), source=EXAMPLES[sid])
    if kind_of(sid) == "identity":
        octets = len(EXAMPLES[sid].encode())
        assert not attachment_problems(
            policy(sid), identity_arn=IDENTITY, source_octets=octets, siblings=0
        )


@rows(
    "sid, changes, outcome",
    [(sid, changes, outcome) for sid, rows in SAYS.items() for changes, outcome in rows],
)
def test_an_example_says_what_the_guide_says(
    sid: str, changes: dict[str, Any], outcome: str
) -> None:
    keys = dict(changes)
    account, user = keys.pop("account", DELEGATE), keys.pop("user", "mailer")
    context = {**CONTEXT, "aws:principalaccount": (account,), **keys}
    example = policy(sid)
    request = Request(
        Caller(account, f"arn:aws:iam::{account}:user/{user}", is_root=False),
        "ses:SendRawEmail",
        IDENTITY,
        context,
    )
    is_grant = example.kind == "identity" and not example.statements[0].is_deny
    decision = evaluate(
        request,
        identity_policies=[example]
        if is_grant
        else [EVERYBODY, *([example] if example.kind == "identity" else [])],
        user_policies=[example if example.kind == "user" else policy("MaySend")],
    )
    assert decision.outcome == outcome, decision.reasons


def test_every_key_that_the_gate_supplies_is_in_the_guide() -> None:
    section = GUIDE.partition("## What conditions can ask")[2].partition("\n## ")[0].lower()
    supplied = [name for name, key in KEYS.items() if key.presence != "never"]
    assert [name for name in supplied if name not in section] == []
