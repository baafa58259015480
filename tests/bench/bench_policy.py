"""The time of a decision, warm: medians in microseconds, printed and not judged."""

import json
import statistics
import time
from collections.abc import Callable, Sequence

import pytest

from smtpgate.core.policy import Caller, Policy, Request, evaluate, parse_policy

pytestmark = pytest.mark.bench

DELEGATE = "999999999999"
IDENTITY = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
CONTEXT = {
    "ses:fromaddress": ("marketing+spring@example.com",),
    "ses:fromdisplayname": ("Marketing",),
    "ses:feedbackaddress": ("bounces@example.com",),
    "ses:recipients": tuple(f"user{n}@example.net" for n in range(10)),
    "ses:apiversion": ("2",),
    "aws:currenttime": ("2026-06-01T12:00:00Z",),
    "aws:sourceip": ("192.0.2.7",),
    "aws:securetransport": ("true",),
}
REQUEST = Request(
    Caller(DELEGATE, f"arn:aws:iam::{DELEGATE}:user/mailer", is_root=False),
    "ses:SendRawEmail",
    IDENTITY,
    CONTEXT,
)
ALLOW = {
    "StringLike": {"ses:FromAddress": ["marketing@example.com", "marketing+*@example.com"]}
}
Make = Callable[[int], dict[str, object]]


def _statement(n: int, account: str, condition: object, **more: object) -> dict[str, object]:
    return {
        "Sid": f"S{n}",
        "Effect": "Allow",
        "Principal": {"AWS": account},
        "Action": "ses:SendRawEmail",
        "Resource": IDENTITY,
        "Condition": condition,
        **more,
    }


def _policy(name: str, statements: Sequence[object]) -> Policy:
    text = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return parse_policy(text, kind="identity", name=name)


def _full_policy(name: str, make: Make) -> Policy:
    """As many statements as fit into 4096 octets, compactly written."""
    statements: list[object] = []
    while len(json.dumps([*statements, make(len(statements))], separators=(",", ":"))) < 4050:
        statements.append(make(len(statements)))
    return _policy(name, statements)


def _small(n: int) -> Policy:
    return _policy(f"p{n}", [_statement(0, DELEGATE, ALLOW)])


def _for_others(n: int) -> dict[str, object]:
    return _statement(n, f"{n:012}" if n else DELEGATE, ALLOW)


def _for_caller(n: int) -> dict[str, object]:
    wanted = {
        "StringLike": {"ses:FromAddress": [f"team{n}+*@example.com", "*@news.example.com"]},
        "DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"},
        "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
    }
    return _statement(n, DELEGATE, ALLOW if n == 0 else wanted)


def _long_list(n: int) -> dict[str, object]:
    patterns = [f"team{m}+*@example.com" for m in range(60)]
    return _statement(n, DELEGATE, {"StringLike": {"ses:FromAddress": [*patterns, "mark*"]}})


def _users() -> list[Policy]:
    return [
        parse_policy(
            json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": {
                        "Effect": "Allow",
                        "Action": ["ses:SendEmail", "ses:Send*"],
                        "Resource": ["*", "arn:aws:ses:*:888888888888:identity/*"],
                        "Condition": {"Bool": {"aws:SecureTransport": "true"}},
                    },
                }
            ),
            kind="user",
            name=f"u{n}",
        )
        for n in range(10)
    ]


def _median_us(identity: Sequence[Policy], users: Sequence[Policy], request: Request) -> float:
    times: list[float] = []
    for _ in range(60):
        start = time.perf_counter()
        for _ in range(20):
            evaluate(request, identity_policies=identity, user_policies=users)
        times.append((time.perf_counter() - start) / 20)
    return statistics.median(times) * 1e6


def test_decisions_are_fast() -> None:
    users = _users()
    tables = {
        "1 policy": ([_small(0)], users[:1]),
        "20 small policies": ([_small(n) for n in range(20)], users[:1]),
        "20 x 4 KB for other accounts + 10 user policies": (
            [_full_policy(f"p{n}", _for_others) for n in range(20)],
            users,
        ),
        "20 x 4 KB for the caller + 10 user policies": (
            [_full_policy(f"p{n}", _for_caller) for n in range(20)],
            users,
        ),
        "20 x 4 KB of long pattern lists + 10 user policies": (
            [_full_policy(f"p{n}", _long_list) for n in range(20)],
            users,
        ),
    }
    print()
    for title, (identity, user_policies) in tables.items():
        decision = evaluate(REQUEST, identity_policies=identity, user_policies=user_policies)
        assert decision.outcome == "allow"
        statements = sum(len(policy.statements) for policy in identity)
        taken = _median_us(identity, user_policies, REQUEST)
        print(f"{title}, {statements} statements: {taken:.1f} us")
    refused = Request(REQUEST.caller, "ses:SendEmail", IDENTITY, CONTEXT)
    identity, user_policies = tables["20 x 4 KB for the caller + 10 user policies"]
    print(f"the same, denied: {_median_us(identity, user_policies, refused):.1f} us")
