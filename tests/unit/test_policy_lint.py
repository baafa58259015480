"""The findings of lint, and documents without one, as tables."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpgate.core.account import Account, Principal, SendingLimits
from smtpgate.core.address import ReversePath, parse_mailbox
from smtpgate.core.authorization.context import author_context, submission_context
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL, Client, Envelope, Submission
from smtpgate.core.policy import PolicyError, corrected, lint_policy, parse_policy
from smtpgate.core.policy.finding import CODES, Finding
from smtpgate.core.policy.keys import KEYS
from tests.support.cases import load_cases
from tests.support.rows import rows
from tests.support.world import DELEGATE

IDENTITY = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
GOOD: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": {"AWS": DELEGATE},
    "Action": "ses:SendRawEmail",
    "Resource": IDENTITY,
}
CASES = load_cases("policy/50-lint.toml")


def by_note(case: dict[str, Any]) -> str:
    return str(case["note"])


def over_good(members: str) -> dict[str, Any]:
    """A good statement with other members; null takes one away."""
    statement = {**GOOD, **json.loads(members)}
    return {key: value for key, value in statement.items() if value is not None}


def lint(document: object, *, idiom: bool = False) -> tuple[Finding, ...]:
    source = json.dumps(document)
    policy = parse_policy(source, kind="identity", name="p", address_tag_idiom=idiom)
    return lint_policy(policy, source=source)


def findings_of(case: dict[str, Any]) -> tuple[Finding, ...]:
    statement = over_good(case.get("statement", "{}"))
    statement["Effect"] = case.get("effect", "Allow")
    if "condition" in case:
        statement["Condition"] = json.loads(case["condition"])
    version = case.get("version", "2012-10-17")
    document = {**({"Version": version} if version else {}), "Statement": [statement]}
    return lint(document, idiom=case.get("idiom", False))


@rows("case", CASES, ids=by_note)
def test_lint_finds_what_its_table_says(case: dict[str, Any]) -> None:
    findings = findings_of(case)
    assert [finding.code for finding in findings] == case["finds"]
    assert all(finding.severity == CODES[finding.code] for finding in findings)
    assert all(finding.path.startswith("Statement[0]") for finding in findings)
    if "says" in case:
        assert case["says"] in findings[0].message
    if "proposes" in case:
        assert findings[0].proposal == case["proposes"]


def test_every_code_but_those_of_documents_is_in_the_table() -> None:
    seen = {code for case in CASES for code in case["finds"]}
    assert set(CODES) - seen == {"near-size-limit", "over-size-limit", "shadowed-by-deny"}


@rows("case", load_cases("policy/51-shadowed.toml"), ids=by_note)
def test_an_allow_that_a_deny_makes_void_is_found(case: dict[str, Any]) -> None:
    allow, deny = over_good(case["allow"]), over_good(case["deny"])
    for statements in (
        [allow, {**deny, "Effect": "Deny"}],
        [{**deny, "Effect": "Deny"}, allow],
    ):
        findings = lint({"Version": "2012-10-17", "Statement": statements})
        shadowed = [finding for finding in findings if finding.code == "shadowed-by-deny"]
        assert bool(shadowed) is case["shadowed"]
        assert all(f.path == f"Statement[{statements.index(allow)}]" for f in shadowed)


@pytest.mark.parametrize(("octets", "codes"), [(3686, []), (3687, ["near-size-limit"])])
def test_a_document_near_the_size_limit_is_found(octets: int, codes: list[str]) -> None:
    document = json.dumps({"Statement": GOOD})
    source = document + " " * (octets - len(document))
    policy = parse_policy(source, kind="identity", name="p")
    assert [finding.code for finding in lint_policy(policy, source=source)] == codes


def test_a_document_over_the_size_limit_is_an_error() -> None:
    source = json.dumps({"Statement": GOOD}) + " " * 4096
    policy = parse_policy(source, kind="identity", name="p")
    assert [finding.severity for finding in lint_policy(policy, source=source)] == ["error"]


def lint_user(*statements: dict[str, Any]) -> tuple[Finding, ...]:
    source = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return lint_policy(parse_policy(source, kind="user", name="p"), source=source)


@pytest.mark.parametrize(
    "action", [["logs:CreateLogStream", "logs:PutLogEvents"], "s3:Get*", "iam:List?ser"]
)
def test_what_a_user_policy_says_of_other_services_is_left_alone(action: object) -> None:
    other = {
        "Effect": "Allow",
        "Action": action,
        "Resource": "arn:aws:logs:*:999999999999:*",
        "Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}},
    }
    mail = {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}
    assert lint_user(other, mail) == ()
    # Where nothing is about mail, or it may be, there is something to say.
    assert [f.code for f in lint_user(other)] == ["action-not-checked", "key-never-present"]
    mixed = {**other, "Action": ["logs:*", "ses:GetSendQuota"]}
    assert "action-not-checked" in [f.code for f in lint_user(mixed, mail)]


@pytest.mark.parametrize(("characters", "codes"), [(6144, []), (6145, ["over-size-limit"])])
def test_a_user_policy_has_a_size_limit_without_white_space(
    characters: int, codes: list[str]
) -> None:
    statement = {"Sid": "", "Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}
    fixed = len("".join(json.dumps({"Statement": statement}).split()))
    statement["Sid"] = "A" * (characters - fixed)
    source = json.dumps({"Statement": statement}) + " " * 5000
    found = lint_policy(parse_policy(source, kind="user", name="p"), source=source)
    assert [finding.code for finding in found] == codes


def test_user_policies_may_have_any_resource_and_white_space() -> None:
    statement = {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}
    source = json.dumps({"Statement": statement}) + " " * 5000
    policy = parse_policy(source, kind="user", name="p")
    assert lint_policy(policy, source=source) == ()


def test_an_allow_of_a_user_policy_can_be_void_too() -> None:
    allow = {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}
    source = json.dumps({"Statement": [allow, {**allow, "Effect": "Deny"}]})
    policy = parse_policy(source, kind="user", name="p")
    codes = [finding.code for finding in lint_policy(policy, source=source)]
    assert codes == ["shadowed-by-deny"]


@pytest.mark.parametrize("case", load_cases("policy/52-corrected.toml"), ids=by_note)
def test_patterns_are_corrected_and_all_else_stays(case: dict[str, Any]) -> None:
    statement = json.dumps(GOOD)[:-1] + ', "Condition": '
    for opening, closing in (("[", "]"), ("", "")):
        before = f'{{"Id": "é", "Statement": {opening}{statement}{case["before"]}}}{closing}}}'
        after = f'{{"Id": "é", "Statement": {opening}{statement}{case["after"]}}}{closing}}}'
        better = corrected(before)
        assert json.loads(better, parse_float=str) == json.loads(after, parse_float=str)
        assert corrected(better) == better


@pytest.mark.parametrize("source", ["[1, true]", '{"Statement": 5}', '{"Statement": [null]}'])
def test_what_is_json_and_no_policy_comes_back(source: str) -> None:
    assert json.loads(corrected(source)) == json.loads(source)


@pytest.mark.parametrize("source", ["", "{", '{"Id": "a", "Id": "b"}'])
def test_what_is_no_json_cannot_be_corrected(source: str) -> None:
    with pytest.raises(PolicyError):
        corrected(source)


def test_the_keys_that_submissions_have_are_those_that_the_gate_supplies() -> None:
    limits, organization_id = SendingLimits(200, 1.0), "o-exampleorg0"
    account = Account(DELEGATE, "delegate", limits, organization_id=organization_id)
    arn = "arn:aws:iam::999999999999:user/mailer"
    mailbox = parse_mailbox("a@example.com")
    submission = Submission(
        "id",
        Principal(account, "mailer", arn, "AIDAEXAMPLE", tags=(("Team", "news"),)),
        Client(address="192.0.2.1", listener="submission", protocol="ESMTPSA"),
        SEND_RAW_EMAIL,
        Envelope.of(ReversePath(mailbox), [mailbox]),
        b"",
        datetime(2026, 6, 1, tzinfo=UTC),
    )
    context = submission_context(submission, "us-east-1", (("kind", ("news",)),))
    supplied = set(author_context(context, Author("A", mailbox))) | {"aws:resourceaccount"}
    for tag in ("aws:principaltag/team", "smtpgate:messagetag/kind"):
        supplied = {name.replace(tag, tag.partition("/")[0] + "/") for name in supplied}
    assert supplied == {name for name, key in KEYS.items() if key.presence != "never"}
