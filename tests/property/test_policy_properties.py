"""Properties of every policy, request, pattern and document."""

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.policy import (
    Caller,
    Decision,
    Outcome,
    Policy,
    PolicyError,
    PolicyKind,
    Problem,
    Request,
    corrected,
    evaluate,
    glob_match,
    lint_policy,
    parse_policy,
    print_policy,
)
from smtpgate.core.policy.finding import CODES
from smtpgate.core.policy.match import globs_of, pieces_of
from smtpgate.core.policy.strict_json import parse_json
from tests.oracle.naive_policy import glob_as_regex, naive_outcome
from tests.support.policies import ACCOUNTS, IDENTITY, Dice, Document, dice, json_values
from tests.support.rows import rows
from tests.support.world import OWNER

kinds: st.SearchStrategy[PolicyKind] = st.sampled_from(["identity", "user"])
Closer = list[tuple[str, list[Document]]]


def read(documents: list[Document], kind: PolicyKind) -> list[Policy]:
    return [
        parse_policy(json.dumps(document), kind=kind, name=f"{kind}-{at}")
        for at, document in enumerate(documents)
    ]


def decide(
    request: Request,
    identity: list[Document],
    user: list[Document],
    closer: Closer | None = None,
) -> Decision:
    return evaluate(
        request,
        identity_policies=read(identity, "identity"),
        user_policies=read(user, "user"),
        more_specific=[(arn, read(texts, "identity")) for arn, texts in closer or []],
    )


def throw(dice: Dice) -> tuple[Request, list[Document], list[Document]]:
    return dice.request(), dice.documents("identity", 3), dice.documents("user", 2)


def statements_of(document: Document) -> list[Document]:
    statements = document["Statement"]
    return statements if isinstance(statements, list) else [statements]


def denying(documents: list[Document]) -> list[Document]:
    """The same documents with every Allow a Deny."""
    turned: list[Document] = json.loads(json.dumps(documents).replace('"Allow"', '"Deny"'))
    return turned


def _compared(dice: Dice, requests: int) -> Iterator[Outcome]:
    _, identity, user = throw(dice)
    closer = [(IDENTITY, dice.documents("identity", 1))]
    policies = read(identity, "identity"), read(user, "user")
    specific = [(arn, read(documents, "identity")) for arn, documents in closer]
    for _ in range(requests):
        request = dice.request()
        plain = {
            "account": request.caller.account_id,
            "arn": request.caller.arn,
            "action": request.action,
            "resource": request.resource,
            "context": request.context,
        }
        expected = naive_outcome(plain, identity, user, closer)
        decision = evaluate(
            request,
            identity_policies=policies[0],
            user_policies=policies[1],
            more_specific=specific,
        )
        assert decision.outcome == expected, (request, identity, user, closer, decision)
        yield decision.outcome


@pytest.mark.slow
def test_decisions_agree_with_a_second_reading_in_thousands_of_cases() -> None:
    counts = Counter(outcome for seed in range(300) for outcome in _compared(Dice(seed), 10))
    assert min(counts[outcome] for outcome in get_args(Outcome)) > 300


@given(dice)
def test_decisions_agree_with_a_second_reading(dice: Dice) -> None:
    list(_compared(dice, 3))


@given(dice)
def test_one_more_deny_never_allows_more(dice: Dice) -> None:
    request, identity, user = throw(dice)
    before = decide(request, identity, user).outcome
    more = denying([dice.document("identity")])
    assert decide(request, identity + more, user).outcome in (before, "explicit-deny")


@given(dice)
def test_a_more_specific_identity_never_allows_more(dice: Dice) -> None:
    request, identity, user = throw(dice)
    before = decide(request, identity, user).outcome
    closer = [(IDENTITY, dice.documents("identity", 2))]
    after = decide(request, identity, user, closer).outcome
    assert after in (before, "explicit-deny")


@given(dice)
def test_order_does_not_matter(dice: Dice) -> None:
    def turned(documents: list[Document]) -> list[Document]:
        return [{**d, "Statement": statements_of(d)[::-1]} for d in documents[::-1]]

    request, identity, user = throw(dice)
    forwards = decide(request, identity, user)
    backwards = decide(request, turned(identity), turned(user))
    assert forwards.outcome == backwards.outcome
    assert len(forwards.determining) == len(backwards.determining)


@given(dice)
def test_nothing_is_allowed_that_no_statement_allows(dice: Dice) -> None:
    request, identity, user = throw(dice)
    decision = decide(request, denying(identity), denying(user))
    is_own = request.resource.split(":")[4] == request.caller.account_id
    assert decision.outcome != "allow" or (is_own and request.caller.is_root)


@given(dice)
def test_a_decision_names_statements_that_bear_it(dice: Dice) -> None:
    request, identity, user = throw(dice)
    decision = decide(request, identity, user)
    wanted = {"allow": "Allow", "explicit-deny": "Deny"}.get(decision.outcome)
    for cited in decision.determining:
        kind, _, at = cited.policy.partition("-")
        assert kind == cited.side
        document = (identity if kind == "identity" else user)[int(at)]
        assert statements_of(document)[cited.index]["Effect"] == wanted
    assert decision.determining or decision.outcome != "explicit-deny"
    assert len(decision.reasons) == 2
    if decision.outcome != "implicit-deny":
        assert decision.nearest_miss is None
    elif decision.nearest_miss is not None:
        assert "\n" not in str(decision.nearest_miss)


@given(dice, kinds)
def test_parse_then_print_then_parse_is_the_same(dice: Dice, kind: PolicyKind) -> None:
    policy = parse_policy(json.dumps(dice.document(kind)), kind=kind, name="p")
    printed = print_policy(policy)
    again = parse_policy(printed, kind=kind, name="p")
    assert again == policy
    assert print_policy(again) == printed


@given(st.text("ab*?", max_size=10), st.text("ab*?\n.", max_size=20))
def test_wildcards_agree_with_regular_expressions(pattern: str, text: str) -> None:
    assert glob_match(pattern, text) is glob_as_regex(pattern, text)


def test_wildcards_agree_with_regular_expressions_on_all_short_texts() -> None:
    texts = ["".join(letters) for size in range(6) for letters in product("ab", repeat=size)]
    for size in range(6):
        for pieces in product(["aa", "a?", "b", "*"], repeat=size):
            pattern = "".join(pieces)
            globs = globs_of([pieces_of(pattern)])
            for text in texts:
                expected = glob_as_regex(pattern, text)
                assert globs.matches(text) is expected, (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("*a" * 50 + "b", False), ("*a?" * 50 + "b", False), ("*?" * 200 + "*", True)],
)
def test_many_stars_do_not_take_for_ever(pattern: str, matches: bool) -> None:
    assert glob_match(pattern, "a" * 2000) is matches


@given(st.lists(st.text("ab*?", max_size=5), max_size=20), st.text("ab*?", max_size=8))
def test_a_list_of_patterns_matches_as_its_patterns_do(patterns: list[str], text: str) -> None:
    globs = globs_of([pieces_of(pattern) for pattern in patterns])
    assert globs.matches(text) is any(glob_match(pattern, text) for pattern in patterns)


def test_a_long_list_of_patterns_has_those_that_begin_with_a_star() -> None:
    globs = globs_of([pieces_of(f"{letter}x*") for letter in "abcdefghij"] + [pieces_of("*z")])
    assert [globs.matches(text) for text in ("az", "kz", "z", "jx", "ja", "kx")] == [
        True
    ] * 4 + [False] * 2


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_pattern_without_wildcards_matches_itself_alone(pattern: str, text: str) -> None:
    plain = pattern.replace("*", "").replace("?", "")
    assert glob_match(plain, plain)
    assert glob_match(plain, text) is (plain == text)


def _is_refused_or_read(text: str | bytes, kind: PolicyKind) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        policy = parse_policy(text, kind=kind, name="p")
    except PolicyError as error:
        problems, lines = error.problems, str(error).splitlines()
    else:
        lines = []
        source = text if isinstance(text, str) else text.decode()
        lint_policy(policy, source=source)
        assert parse_policy(print_policy(policy), kind=kind, name="p") == policy
    assert len(lines) == len(problems)


@given(st.binary(max_size=60))
@example(b"\xef\xbb\xbf{}")
@example(b'{"Statement": "\\ud800"}')
@example(b'{"\\u0000": ' + b"[" * 2000)
@example(b'"' + b"a" * 5000)
def test_any_octets_are_a_policy_or_an_error(octets: bytes) -> None:
    _is_refused_or_read(octets, "identity")


@given(st.text(max_size=60))
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    _is_refused_or_read(text, "identity")


@given(json_values)
def test_the_quick_reader_of_json_reads_what_the_strict_one_does(value: object) -> None:
    # An escape sends the document to the strict reader.
    strict = '["\\u0020", ' + json.dumps(value) + "]"
    quick = '[" ", ' + json.dumps(value, ensure_ascii=False) + "]"
    assert parse_json(strict) == parse_json(quick)


@given(dice, kinds, json_values)
def test_a_document_with_one_part_exchanged_is_a_policy_or_an_error(
    dice: Dice, kind: PolicyKind, other: object
) -> None:
    document = dice.document(kind)
    _is_refused_or_read(json.dumps(document), kind)
    dice.exchange(document, other)
    _is_refused_or_read(json.dumps(document), kind)


@given(dice, kinds)
def test_lint_and_correction_take_every_policy(dice: Dice, kind: PolicyKind) -> None:
    source = json.dumps(dice.document(kind))
    policy = parse_policy(source, kind=kind, name="p")
    for finding in lint_policy(policy, source=source):
        assert finding.message
        assert not finding.message.endswith(".")
        assert finding.severity == CODES[finding.code]
    better = corrected(source)
    assert corrected(better) == better
    left = lint_policy(parse_policy(better, kind=kind, name="p"), source=better)
    assert not any(f.code == "regex-as-glob" and f.proposal for f in left)


ABSTRACT = list(product(["Allow", "Deny"], [True, False]))


@cache
def _abstract(effect: str, applies: bool, principal: str | None) -> Policy:
    made: Document = {
        "Effect": effect,
        "Action": "ses:SendRawEmail" if applies else "ses:SendEmail",
        "Resource": IDENTITY,
    }
    if principal is not None:
        made["Principal"] = {"AWS": principal}
    return read([{"Statement": made}], "user" if principal is None else "identity")[0]


@rows("is_root", [False, True])
@rows("account", ACCOUNTS)
@rows("principal", ["account", "user", "everybody"])
def test_combining_is_right_for_every_combination_of_two_statements_a_side(
    is_root: bool, account: str, principal: str
) -> None:
    arn = f"arn:aws:iam::{account}:" + ("root" if is_root else "user/a")
    request = Request(Caller(account, arn, is_root), "ses:SendRawEmail", IDENTITY, {})
    names = {"account": account, "user": f"arn:aws:iam::{account}:user/a", "everybody": "*"}
    named, suffices = names[principal], principal != "account"
    for chosen in product([None, *ABSTRACT], repeat=4):
        # A statement for the user alone is not about the account's root.
        said = {
            c[0] for c in chosen[:2] if c and c[1] and not (principal == "user" and is_root)
        }
        user_said = {c[0] for c in chosen[2:] if c and c[1]}
        user_half = is_root or "Allow" in user_said
        if account == OWNER:
            passes = user_half or (suffices and "Allow" in said)
        else:
            passes = user_half and "Allow" in said
        expected = "allow" if passes else "implicit-deny"
        if "Deny" in said | user_said:
            expected = "explicit-deny"
        decision = evaluate(
            request,
            identity_policies=[_abstract(*c, named) for c in chosen[:2] if c],
            user_policies=[_abstract(*c, None) for c in chosen[2:] if c],
        )
        assert decision.outcome == expected, (chosen, decision)
