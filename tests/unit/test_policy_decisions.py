"""Tables of conditions and decisions, each with the document that says so."""

import json
from typing import Any

from smtpgate.core.policy import (
    Caller,
    Decision,
    Determining,
    NearestMiss,
    Outcome,
    Policy,
    Request,
    Side,
    corrected,
    evaluate,
    glob_match,
    parse_policy,
)
from smtpgate.core.policy.match import globs_of, pieces_of
from smtpgate.core.policy.operators import OPERATORS
from tests.support.cases import CASES, load_cases
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

IDENTITY = f"arn:aws:ses:us-east-1:{OWNER}:identity/example.com"
ADDRESS = f"arn:aws:ses:us-east-1:{OWNER}:identity/a@example.com"
ANNOUNCED = """{
  "Id": "SampleAuthorizationPolicy",
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "AuthorizeMarketer",
      "Effect": "Allow",
      "Resource": "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com",
      "Principal": {"AWS": ["999999999999"]},
      "Action": ["SES:SendEmail", "SES:SendRawEmail"],
      "Condition": {"StringLike": {"ses:FromAddress": "marketing+.*@ses-example.com"}}
    }
  ]
}"""
NAMED = {
    "@announced": ANNOUNCED,
    "@corrected": corrected(ANNOUNCED),
    "@everybody": """{"Statement": {
        "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}""",
    "@may-send": """{"Statement": {
        "Sid": "MaySend", "Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}}""",
}
CALLERS = {
    "mailer": Caller(DELEGATE, f"arn:aws:iam::{DELEGATE}:user/mailer", is_root=False),
    "root": Caller(DELEGATE, f"arn:aws:iam::{DELEGATE}:root", is_root=True),
    "owner": Caller(OWNER, f"arn:aws:iam::{OWNER}:user/mailer", is_root=False),
    "owner-root": Caller(OWNER, f"arn:aws:iam::{OWNER}:root", is_root=True),
}
CONTEXT: dict[str, list[str]] = {
    "ses:fromaddress": ["a@example.com"],
    "ses:recipients": ["x@example.com", "y@other.org"],
    "ses:apiversion": ["2"],
    "aws:sourceip": ["192.0.2.1"],
    "aws:currenttime": ["2026-06-01T12:00:00Z"],
    "aws:epochtime": ["1780315200"],
    "aws:securetransport": ["true"],
    "aws:principalarn": [f"arn:aws:iam::{DELEGATE}:user/mailer"],
    "aws:username": ["mailer"],
}
CONDITIONS = [
    case
    for path in sorted((CASES / "policy").glob("2*.toml"))
    for case in load_cases(f"policy/{path.name}")
]
DECISIONS = [
    case
    for path in sorted((CASES / "policy").glob("3*.toml"))
    for case in load_cases(f"policy/{path.name}")
]


def by_note(case: dict[str, Any]) -> str:
    return str(case["note"])


def context_of(case: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        key: tuple(values) for key, values in {**CONTEXT, **case.get("context", {})}.items()
    }


@rows("case", load_cases("policy/10-globs.toml"), ids=by_note)
def test_a_glob_matches_what_its_table_says(case: dict[str, Any]) -> None:
    globs = globs_of([pieces_of(case["pattern"]), pieces_of("?none*of*these?")])
    for text in case["matches"]:
        assert glob_match(case["pattern"], text), text
        assert globs.matches(text), text
    for text in case["misses"]:
        assert not glob_match(case["pattern"], text), text
        assert not globs.matches(text), text


@rows("case", CONDITIONS, ids=by_note)
def test_a_condition_holds_when_its_table_says_so(case: dict[str, Any]) -> None:
    assert (outcome_under(case, "Allow") == "allow") is case["holds"]


@rows("case", CONDITIONS, ids=by_note)
def test_a_condition_of_a_deny_holds_also_for_what_cannot_be_read(case: dict[str, Any]) -> None:
    holds = case.get("holds_for_deny", case["holds"])
    assert (outcome_under(case, "Deny") == "explicit-deny") is holds


def outcome_under(case: dict[str, Any], effect: str) -> Outcome:
    statement = {
        "Effect": effect,
        "Principal": "*",
        "Action": "*",
        "Resource": "*",
        "Condition": json.loads(case["condition"]),
    }
    version = case.get("version", "2012-10-17")
    document = {"Statement": statement, **({"Version": version} if version else {})}
    policy = parse_policy(json.dumps(document), kind="identity", name="p")
    request = Request(CALLERS["root"], "ses:SendRawEmail", IDENTITY, context_of(case))
    return evaluate(request, identity_policies=[policy], user_policies=[]).outcome


def test_every_operator_has_a_case_that_holds_and_one_that_does_not() -> None:
    seen: dict[str, set[bool]] = {}
    for case in CONDITIONS:
        for name in json.loads(case["condition"]):
            base = name.rpartition(":")[2].removesuffix("IfExists")
            seen.setdefault(base, set()).add(case["holds"])
    assert seen == {name: {True, False} for name in OPERATORS}


def read(case: dict[str, Any], side: str, default: list[str]) -> list[Policy]:
    return [
        parse_policy(
            NAMED.get(text, text),
            kind="user" if side == "user" else "identity",
            name=f"{side}-{at}",
            address_tag_idiom=case.get("idiom", False),
        )
        for at, text in enumerate(case.get(side, default))
    ]


def caller_of(case: dict[str, Any]) -> Caller:
    name = case.get("caller", "mailer")
    if name in CALLERS:
        return CALLERS[name]
    return Caller(name.split(":")[4], name, name.endswith(":root"))


def decide(case: dict[str, Any]) -> Decision:
    identity = (
        IDENTITY.replace("example.com", "ses-example.com") if "from" in case else IDENTITY
    )
    context = context_of(case)
    if "from" in case:
        context["ses:fromaddress"] = (case["from"],)
    return evaluate(
        Request(caller_of(case), "ses:SendRawEmail", identity, context),
        identity_policies=read(case, "identity", []),
        user_policies=read(case, "user", ["@may-send"]),
        more_specific=[(ADDRESS, read(case, "closer", []))],
    )


@rows("case", DECISIONS, ids=by_note)
def test_a_decision_is_what_its_table_says(case: dict[str, Any]) -> None:
    decision = decide(case)
    assert decision.outcome == case["outcome"]
    if "determining" in case:
        cited = [
            f"{d.side} {d.index if d.sid is None else d.sid}" for d in decision.determining
        ]
        assert cited == case["determining"]
    if "says" in case:
        assert list(decision.reasons) == case["says"]
    if "miss" in case:
        assert str(decision.nearest_miss) == case["miss"]
        assert case["miss"] in "\n".join(decision.reasons)


def test_a_decision_asked_again_is_the_same() -> None:
    policies = [parse_policy(NAMED["@everybody"], kind="identity", name="p")]
    for n in range(40):
        caller = Caller(DELEGATE, f"arn:aws:iam::{DELEGATE}:user/u{n % 20}", is_root=False)
        for action, wanted in (
            ("ses:SendRawEmail", "allow"),
            ("s3:Get", "implicit-deny"),
        ):
            decision = evaluate(
                Request(caller, action, IDENTITY, {}),
                identity_policies=policies,
                user_policies=[parse_policy(NAMED["@may-send"], kind="user", name="u")],
            )
            assert decision.outcome == wanted


def test_a_resource_that_is_no_arn_belongs_to_nobody() -> None:
    request = Request(CALLERS["owner-root"], "ses:SendRawEmail", "example.com", {})
    decision = evaluate(request, identity_policies=[], user_policies=[])
    assert decision.outcome == "implicit-deny"
    everybody = parse_policy(NAMED["@everybody"], kind="identity", name="p")
    decision = evaluate(request, identity_policies=[everybody], user_policies=[])
    assert decision.outcome == "allow"


def test_a_side_tells_what_it_said() -> None:
    assert Side("user", "allow").result == "allow"
    assert Side("user", "implicit-deny", is_needed=False).result == "not-needed"
    assert Side("identity", "explicit-deny", is_needed=False).result == "explicit-deny"


def test_a_miss_without_a_name_is_reported_by_its_place() -> None:
    miss = NearestMiss("user", "p", None, 2, "Action", "ses:SendEmail", "")
    assert str(miss) == "Statement[2] of policy `p' wants Action `ses:SendEmail', saw nothing"
    assert str(Determining("identity", "p", "S", 0)) == "statement `S' of policy `p'"
