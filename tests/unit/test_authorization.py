"""The identity of each role, the questions to it, and the words of a refusal."""

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from smtpgate.core.account import Account, Principal, SendingLimits
from smtpgate.core.address import Mailbox, parse_mailbox
from smtpgate.core.arn import IdentityArn, user_arn
from smtpgate.core.authorization import roles
from smtpgate.core.authorization.context import principal_context
from smtpgate.core.authorization.roles import (
    Authorization,
    AuthorizationRequest,
    Denial,
    authorize,
)
from smtpgate.core.identity import Identity
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.policy import Policy, PolicyKind, parse_policy
from smtpgate.core.upstream.verdict import worded
from tests.support.rows import rows

OWNER, OTHER, DELEGATE = "888888888888", "777777777777", "999999999999"
REGION = "us-east-1"
MAY_SEND = {"Effect": "Allow", "Action": "ses:Send*", "Resource": "*"}


def arn_of(name: str, owner: str = OWNER) -> IdentityArn:
    return IdentityArn("aws", REGION, owner, name)


def policy(kind: PolicyKind, *statements: dict[str, Any]) -> Policy:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return parse_policy(json.dumps(document), kind=kind, name=f"the-{kind}")


def grant(
    name: str, owner: str = OWNER, effect: str = "Allow", **more: object
) -> dict[str, Any]:
    return {
        "Effect": effect,
        "Principal": {"AWS": DELEGATE},
        "Action": "ses:SendRawEmail",
        "Resource": str(arn_of(name, owner)),
        **more,
    }


def only(*addresses: str) -> dict[str, Any]:
    return {"Condition": {"StringEquals": {"ses:FromAddress": list(addresses)}}}


def identity(
    name: str,
    *statements: dict[str, Any],
    owner: str = OWNER,
    **more: Any,  # noqa: ANN401 - by the field
) -> Identity:
    policies = (policy("identity", *statements),) if statements else ()
    made = Identity(arn_of(name, owner), is_verified=True, policies=policies)
    return structs.replace(made, **more)


def sender_of(account: str = DELEGATE, *, policies: tuple[Policy, ...] = ()) -> Principal:
    made = Account(account, "x", SendingLimits(-1, -1))
    policies = policies or (policy("user", MAY_SEND),)
    return Principal(made, "mailer", user_arn(account, "mailer"), "AIDA", policies)


def authors(*texts: str) -> tuple[Author, ...]:
    return tuple(Author(None, parse_mailbox(text)) for text in texts)


def question_of(
    *identities: Identity,
    by: tuple[Author, ...],
    principal: Principal | None = None,
    **more: Any,  # noqa: ANN401 - by the field
) -> AuthorizationRequest:
    known: dict[str, list[Identity]] = {}
    for one in identities:
        known.setdefault(one.name, []).append(one)
    principal = principal or sender_of()
    request = AuthorizationRequest(
        principal=principal,
        action=SEND_RAW_EMAIL,
        intent=SendingIntent(),
        reverse_path=None,
        authors=by,
        sender=None,
        resent=(),
        context=principal_context(principal, REGION),
        known=known,
        region=REGION,
        infer_arn=True,
    )
    return structs.replace(request, **more)


def decide(
    *identities: Identity,
    by: str | tuple[str, ...] = "marketing@ses-example.com",
    sender: str | None = None,
    resent: tuple[str, ...] = (),
    path: str | None = None,
    named: IdentityArn | None = None,
    principal: Principal | None = None,
    infer_arn: bool = True,
) -> Authorization:
    reverse_path: Mailbox | None = None if path is None else parse_mailbox(path)
    return authorize(
        question_of(
            *identities,
            by=authors(*([by] if isinstance(by, str) else by)),
            principal=principal,
            action=SEND_RAW_EMAIL,
            intent=SendingIntent(from_arn=named),
            reverse_path=reverse_path,
            sender=None if sender is None else authors(sender)[0],
            resent=authors(*resent),
            infer_arn=infer_arn,
        )
    )


def denial(
    *identities: Identity,
    **how: Any,  # noqa: ANN401 - as for decide
) -> Denial:
    with pytest.raises(Denial) as raised:
        decide(*identities, **how)
    return raised.value


# -- the policies that are asked ---------------------------------------------------------------

ONE = identity("one.example", grant("one.example", **only("a@one.example")))
TWO = identity("two.example", grant("two.example", OTHER, **only("b@two.example")), owner=OTHER)
BOTH = ("a@one.example", "b@two.example")


def test_each_identity_is_asked_about_the_authors_that_it_serves() -> None:
    found = decide(ONE, TWO, by=BOTH)
    assert [used.arn for used in found.identities] == [str(ONE.arn), str(TWO.arn)]
    refused = denial(ONE, TWO, by=("a@one.example", "c@two.example"))
    assert (refused.reason, refused.identities[-1].arn) == ("implicit-deny", str(TWO.arn))
    assert refused.identities[0].arn == str(ONE.arn)


def test_an_identity_that_serves_mail_from_too_is_asked_about_its_own_author() -> None:
    assert decide(ONE, TWO, by=BOTH, path="bounces@two.example").identities[-1].arn == str(
        TWO.arn
    )


def test_an_identity_that_serves_mail_from_alone_is_asked_about_each_author() -> None:
    both: Any = {"by": "a@one.example", "path": "bounces@two.example"}
    refused = denial(ONE, TWO, **both)
    assert refused.identities[-1].arn == str(TWO.arn)
    wide = identity("two.example", grant("two.example", OTHER), owner=OTHER)
    assert decide(ONE, wide, **both).identities[-1].arn == str(wide.arn)
    narrow = grant("two.example", OTHER, **only("a@one.example"))
    wide = identity("two.example", narrow, owner=OTHER)
    assert decide(ONE, wide, **both).identities[-1].arn == str(wide.arn)


ALONE = {"by": authors("a@one.example")}


@pytest.mark.parametrize(
    "shown",
    [
        ALONE,
        ALONE | {"infer_arn": False},
        ALONE | {"principal": sender_of(OWNER)},
        ALONE | {"sender": authors("b@two.example")[0]},
        ALONE | {"resent": authors("d@one.example")},
        {"by": (Author("A", parse_mailbox("a@one.example"), ("B",)),)},
        {"by": authors("a@one.example", "b@two.example")},
        {"by": authors("d@one.example", "a@one.example")},
    ],
)
def test_a_role_that_is_decided_with_the_one_before_gets_the_decision_of_its_own(
    shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = (None, ONE.arn, TWO.arn, arn_of("unknown.example"))
    paths = ("a@one.example", "d@one.example", "bounces@two.example", "c@unknown.example")
    deny = grant("d@one.example", effect="Deny", **only("a@one.example"))
    identities = (
        identity("one.example", grant("one.example")),
        identity("d@one.example", deny),
        identity("two.example", grant("two.example", OTHER), owner=OTHER),
    )

    def found(intent: SendingIntent, path: str) -> object:
        question = question_of(
            *identities, intent=intent, reverse_path=parse_mailbox(path), **shown
        )
        try:
            return authorize(question)
        except Denial as denial:
            return denial.reason, denial.detail, denial.identities, str(denial.shown)

    questions = [
        (SendingIntent(source, author, return_path), path)
        for source, author, return_path in product(named, repeat=3)
        for path in paths
    ]
    together = [found(*question) for question in questions]
    monkeypatch.setattr(roles, "_is_as_before", lambda *_: False)
    assert together == [found(*question) for question in questions]
    assert {type(one) for one in together} == {Authorization, tuple}


def test_two_authors_of_one_identity_must_both_be_allowed() -> None:
    assert denial(ONE, by=("a@one.example", "c@one.example")).reason == "implicit-deny"


@pytest.mark.parametrize("named", [None, arn_of("ses-example.com")])
@pytest.mark.parametrize("field", ["sender", "resent"])
def test_a_limited_sender_is_limited_in_sender_and_resent_from(
    field: str, named: IdentityArn | None
) -> None:
    limited = grant("ses-example.com", **only("marketing@ses-example.com"))
    known = identity("ses-example.com", limited)
    fits: Any = "marketing@ses-example.com"
    ceo: Any = "ceo@ses-example.com"
    if field == "resent":
        fits, ceo = (fits, fits), (fits, ceo)
    found = decide(known, named=named, **{field: fits})
    assert field in {used.role for used in found.identities}
    refused = denial(known, named=named, **{field: ceo})
    assert refused.reason == "implicit-deny"
    assert str(refused.identities[-1].address) == "ceo@ses-example.com"
    assert refused.identities[-1].role == field
    assert "saw `ceo@ses-example.com'" in refused.detail


@pytest.mark.parametrize("field", ["sender", "resent"])
def test_a_display_name_is_asked_of_sender_and_resent_from_where_they_have_one(
    field: str,
) -> None:
    named: Any = {"Condition": {"StringEquals": {"ses:FromDisplayName": "Example Shop"}}}
    known = identity("ses-example.com", grant("ses-example.com", **named))
    mailbox = parse_mailbox("shop@ses-example.com")
    for name, passes in ((None, True), ("Example Shop", True), ("The CEO", False)):
        other = Author(name, mailbox)
        value: Any = other if field == "sender" else (other,)
        request = question_of(known, by=(Author("Example Shop", mailbox),), **{field: value})
        if passes:
            assert authorize(request).identities[-1].role == field
        else:
            with pytest.raises(Denial) as refused:
                authorize(request)
            assert "saw `The CEO'" in refused.value.detail


def test_a_resent_from_that_nobody_verified_is_refused() -> None:
    known = identity("ses-example.com", grant("ses-example.com"))
    assert denial(known, resent=("ceo@bank.example",)).reason == "not-verified"


# -- who reads which text ----------------------------------------------------------------------

DENY = grant("ses-example.com", effect="Deny", Principal="*")
OTHERS = grant("ses-example.com", Principal={"AWS": OTHER})
OF_AN_ORGANIZATION = grant(
    "ses-example.com",
    Principal="*",
    Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}},
)
STATES: dict[str, tuple[Identity, ...]] = {
    "unknown": (),
    "unknown, and the name is another account's": (identity("ses-example.com", owner=OTHER),),
    "unverified": (identity("ses-example.com", OTHERS, is_verified=False),),
    "not granted": (identity("ses-example.com"),),
    "granted to others": (identity("ses-example.com", OTHERS),),
    "granted to an organization": (identity("ses-example.com", OF_AN_ORGANIZATION),),
    "denied": (identity("ses-example.com", DENY),),
    "paused": (identity("ses-example.com", paused_reason="being sold"),),
    "a closer one is paused": (
        identity("ses-example.com"),
        identity("marketing@ses-example.com", paused_reason="being sold"),
    ),
    "a closer one is not verified": (
        identity("ses-example.com"),
        identity("marketing@ses-example.com", is_verified=False),
    ),
    "the delegate is paused": (
        identity("ses-example.com", paused_delegates={DELEGATE: "it bounces"}),
    ),
    "a closer one denies": (
        identity("ses-example.com"),
        identity(
            "marketing@ses-example.com",
            {**DENY, "Resource": str(arn_of("marketing@ses-example.com"))},
        ),
    ),
}
REASONS = {
    "unverified": "not-verified",
    "denied": "explicit-deny",
    "paused": "identity-paused",
    "a closer one is paused": "identity-paused",
    "the delegate is paused": "delegate-paused",
    "a closer one denies": "explicit-deny",
}
NOBODY = (policy("user", {**MAY_SEND, "Action": "ses:SendEmail"}),)


def shown(refused: Denial) -> str:
    return str(worded(refused.shown or refused, "0100"))


@rows("path", [None, "marketing@ses-example.com"])
@rows("region", [REGION, "*"])
@rows("policies", [(), NOBODY])
def test_a_stranger_reads_one_text_whatever_the_identity_is(
    policies: tuple[Policy, ...], region: str, path: str | None
) -> None:
    named = structs.replace(arn_of("ses-example.com"), region=region)
    output = set()
    for state, known in STATES.items():
        refused = denial(*known, named=named, path=path, principal=sender_of(policies=policies))
        output.add(shown(refused))
        if not policies:
            is_unknown = state.startswith("unknown")
            default = "not-verified" if is_unknown else "implicit-deny"
            assert refused.reason == REASONS.get(state, default), state
            assert bool(refused.identities) is not is_unknown, state
    assert output == {
        f"554 5.7.1 Access denied: User `arn:aws:iam::{DELEGATE}:user/mailer' is not "
        f"authorized to perform `ses:SendRawEmail' on resource `{named}' (implicit-deny: "
        "the identity's policies do not name you; 0100)"
    }


def test_a_stranger_that_names_nothing_reads_one_text_too() -> None:
    output = {shown(denial(*known)) for known in STATES.values()}
    assert len(output) == 1
    (text,) = output
    assert "not verified" in text
    assert OWNER not in text


@pytest.mark.parametrize("infer_arn", [True, False])
@pytest.mark.parametrize("named", [None, arn_of("ses-example.com")])
def test_a_sender_that_an_allow_names_reads_why(
    named: IdentityArn | None, infer_arn: bool
) -> None:
    limited = grant("ses-example.com", **only("info@ses-example.com"))
    how: dict[str, Any] = {"named": named, "infer_arn": infer_arn}
    refused = denial(identity("ses-example.com", limited), **how)
    assert "wants StringEquals ses:FromAddress `info@ses-example.com'" in shown(refused)
    refused = denial(identity("ses-example.com", limited, {**DENY, "Sid": "Never"}), **how)
    assert "statement `Never' of policy `the-identity'" in shown(refused)
    if named:
        paused = identity("ses-example.com", limited, paused_reason="being sold")
        assert "being sold" in shown(denial(paused, **how))
        unverified = identity("ses-example.com", limited, is_verified=False)
        assert "is no verified identity" in shown(denial(unverified, **how))


def test_the_owner_s_own_users_read_why() -> None:
    own = sender_of(OWNER)
    known = identity("ses-example.com", DENY)
    assert "the-identity" in shown(denial(known, principal=own, named=known.arn))
    assert "no verified identity" in shown(denial(principal=own, named=known.arn))
    paused = identity("ses-example.com", paused_reason="being sold")
    assert "being sold" in shown(denial(paused, principal=own))


@rows("is_verified", [True, False])
@rows("sender", [sender_of(OWNER), sender_of()])
@rows("author", ["marketing@ses-example.com", "a@news.ses-example.com"])
def test_a_paused_domain_cannot_be_sent_with_by_what_it_covers(
    author: str, sender: Principal, is_verified: bool
) -> None:
    paused = identity("ses-example.com", paused_reason="stolen key", is_verified=is_verified)
    name = author if author.startswith("marketing") else author.partition("@")[2]
    narrow = identity(name, grant(name))
    assert decide(narrow, by=author, principal=sender).identities
    refused = denial(paused, narrow, by=author, principal=sender)
    assert refused.reason == "identity-paused"
    elsewhere = identity("ses-example.com", owner=OTHER, paused_reason="stolen key")
    assert decide(elsewhere, narrow, by=author, principal=sender).identities


@rows("author", ["marketing@ses-example.com", "a@news.ses-example.com"])
def test_a_delegate_is_paused_on_a_domain_and_on_what_it_covers(author: str) -> None:
    name = author if author.startswith("marketing") else author.partition("@")[2]
    narrow = identity(name, grant(name))
    paused = identity("ses-example.com", paused_delegates={DELEGATE: "it bounces"})
    refused = denial(paused, narrow, by=author)
    assert refused.reason == "delegate-paused"
    assert f"paused for this account by identity {paused.arn} until its own" in shown(refused)
    assert "(delegate-paused: it bounces; " in shown(refused)
    # Others by the identity, and the delegate by others, go on.
    assert decide(paused, narrow, by=author, principal=sender_of(OWNER)).identities
    elsewhere = structs.replace(paused, arn=arn_of("ses-example.com", OTHER))
    assert decide(elsewhere, narrow, by=author).identities
    others = identity("ses-example.com", paused_delegates={OTHER: "it bounces"})
    assert decide(others, narrow, by=author).identities


@pytest.mark.parametrize("infer_arn", [True, False])
def test_a_refusal_of_an_inferred_identity_has_the_identity(infer_arn: bool) -> None:
    limited = identity("ses-example.com", grant("ses-example.com", **only("a@ses-example.com")))
    refused = denial(limited, infer_arn=infer_arn)
    assert [(used.role, used.arn, used.how) for used in refused.identities] == [
        ("from", str(limited.arn), "inferred")
    ]
    assert refused.decision is not None
    # As a second role, after the one that was served.
    refused = denial(ONE, limited, by=("a@one.example", "ceo@ses-example.com"))
    assert [used.arn for used in refused.identities] == [str(ONE.arn), str(limited.arn)]


def test_what_could_be_named_and_was_not_is_the_identity_s_too() -> None:
    known = identity("ses-example.com", grant("ses-example.com"))
    refused = denial(known, infer_arn=False)
    assert (refused.reason, refused.identities[0].arn) == ("not-verified", str(known.arn))


@given(
    st.lists(st.sampled_from(sorted(STATES)), min_size=2, max_size=2),
    st.sampled_from(["ceo@ses-example.com", "a@mail.ses-example.com"]),
)
def test_no_two_states_of_an_identity_can_be_distinguished_by_a_stranger(
    states: list[str], by: str
) -> None:
    named = arn_of("ses-example.com")
    one, other = (shown(denial(*STATES[state], named=named, by=by)) for state in states)
    assert one == other


@pytest.mark.parametrize("named", [None, arn_of("ses-example.com")])
def test_the_owners_user_needs_no_policy_where_the_identity_allows_everybody_or_names_it(
    named: IdentityArn | None,
) -> None:
    user = structs.replace(sender_of(OWNER), policies=())

    def own(principal: object) -> Identity:
        return identity("ses-example.com", grant("ses-example.com", Principal=principal))

    for allowed in ("*", {"AWS": "*"}, {"AWS": user.arn}):
        passed = decide(own(allowed), principal=user, named=named)
        assert {used.arn for used in passed.identities} == {str(arn_of("ses-example.com"))}
    for other in ({"AWS": OWNER}, {"AWS": user_arn(OWNER, "other")}, {"AWS": DELEGATE}):
        assert denial(own(other), principal=user, named=named).reason == "implicit-deny"
