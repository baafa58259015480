"""A relay's reports: their form, their recipients, and their signature."""

from typing import Any

import pytest
from msgspec import structs

from smtpgate.core.account import Principal
from smtpgate.core.address import Mailbox, parse_mailbox
from smtpgate.core.authorization.context import principal_context
from smtpgate.core.authorization.reports import authorize_message, report_recipients
from smtpgate.core.authorization.roles import Authorization, AuthorizationRequest, Denial
from smtpgate.core.identity import Identity
from smtpgate.core.message.envelope import SEND_RAW_EMAIL
from smtpgate.core.message.reading import ReadMessage, read_message
from smtpgate.core.policy import Context
from tests.support.rows import rows
from tests.support.world import DELEGATE
from tests.unit.test_authorization import (
    DENY,
    OTHER,
    OWNER,
    REGION,
    grant,
    identity,
    only,
    policy,
    sender_of,
)

REPORT = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n"
DAEMON = "From: MAILER-DAEMON@relay.example (Mail Delivery System)\r\n"
BODY = "\r\n--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n--b--\r\n"
STATUS = (
    "\r\n--b/1\r\nContent-Type: message/delivery-status\r\n\r\nStatus: 5.0.0\r\n--b/1--\r\n"
)
TO = "marketing@ses-example.com"
LIMITED = grant("ses-example.com", **only(TO))


def message(text: str) -> ReadMessage:
    return read_message(text.encode(), smtputf8=False)


def recipients(*addresses: str) -> tuple[Mailbox, ...]:
    return tuple(map(parse_mailbox, addresses))


@pytest.mark.parametrize(
    "text",
    [
        f"{DAEMON}{REPORT}{BODY}",
        f"From: Mail Delivery System <Mailer-Daemon@relay.example>\r\n{REPORT}{BODY}",
        f'From: "Courier mail server" <PostMaster@relay.example>\r\n{REPORT}{BODY}',
        f"{DAEMON}Content-Type: Multipart/Report\r\n{BODY}",
        f"{DAEMON}Content-type: multipart/report;\r\n\tboundary=b; report-type=x\r\n{BODY}",
        # As OpenSMTPD writes them.
        f'{DAEMON}Content-Type: multipart/mixed;boundary="b/1"\r\n{STATUS}',
        f"{DAEMON}Content-Type: multipart/mixed; boundary=b/1\r\n{STATUS}",
    ],
)
def test_a_report_of_a_relay_is_known(text: str) -> None:
    to = recipients(TO)
    assert report_recipients(message(text), None, to) == to
    assert report_recipients(message(text), to[0], to) == (), "only with a null reverse-path"
    assert report_recipients(message(text), None, to * 11) == (), "to a few"


@rows(
    "text",
    [
        f"From: ceo@relay.example\r\n{REPORT}{BODY}",
        f"From: postmasters@relay.example\r\n{REPORT}{BODY}",
        f"{DAEMON}\r\nSorry.\r\n",
        f"{DAEMON}Content-Type: text/plain\r\n{BODY}",
        f"{DAEMON}Content-Type: multipart/reports\r\n{BODY}",
        f"{DAEMON}Content-Type: text/multipart/report\r\n{BODY}",
        f"{DAEMON}Content-Type: multipart/mixed; boundary=b\r\n{BODY}",
        f'{DAEMON}Content-Type: multipart/mixed; boundary="c"\r\n{STATUS}',
        f"{DAEMON}Content-Type: multipart/mixed\r\n{STATUS}",
        f"From: a@relay.example, postmaster@relay.example\r\n{REPORT}{BODY}",
        f"{DAEMON}Sender: ceo@ses-example.com\r\n{REPORT}{BODY}",
        f"{DAEMON}Resent-From: ceo@ses-example.com\r\n{REPORT}{BODY}",
    ],
)
def test_other_messages_are_no_reports(text: str) -> None:
    assert report_recipients(message(text), None, recipients(TO)) == ()


def decide(
    *identities: Identity,
    to: tuple[str, ...] = (TO,),
    author: str = DAEMON,
    principal: Principal | None = None,
    context: Context | None = None,
) -> Authorization:
    known: dict[str, list[Identity]] = {}
    for one in identities:
        known.setdefault(one.name, []).append(one)
    principal = principal or sender_of()
    read = message(f"{author}{REPORT}{BODY}")
    return authorize_message(
        AuthorizationRequest(
            principal=principal,
            action=SEND_RAW_EMAIL,
            intent=read.intent,
            reverse_path=None,
            authors=read.authors,
            sender=read.sender,
            resent=read.resent,
            context={**principal_context(principal, REGION), **(context or {})},
            known=known,
            region=REGION,
            infer_arn=False,
        ),
        report_recipients(read, None, recipients(*to)),
        "gate.host.example",
    )


def test_a_report_passes_to_an_address_that_the_sender_might_use_as_from() -> None:
    found = decide(identity("ses-example.com", LIMITED))
    assert [(one.role, str(one.address), one.how) for one in found.identities] == [
        ("report", TO, "inferred")
    ]
    assert [cited.side for cited in found.decision.determining] == ["user", "identity"]
    assert found.signing_identity is None
    assert found.may_be_unsigned
    assert [one.name for one in found.capped_by] == ["ses-example.com"]


def test_what_depends_on_the_rest_of_a_message_is_taken_to_be_so() -> None:
    wanted = {
        "StringEquals": {"ses:FromAddress": TO, "ses:FeedbackAddress": TO},
        "ForAllValues:StringLike": {"ses:Recipients": "*@example.net"},
        "StringLike": {"ses:FromDisplayName": "Marketing*"},
    }
    context = {"ses:recipients": (TO,), "aws:sourceip": ("192.0.2.7",)}
    known = identity("ses-example.com", grant("ses-example.com", Condition=wanted))
    assert decide(known, context=context).may_be_unsigned
    # Keys that are the same for every message are asked.
    elsewhere = {**wanted, "IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}
    known = identity("ses-example.com", grant("ses-example.com", Condition=elsewhere))
    with pytest.raises(Denial):
        decide(known, context=context)


@rows(
    "known, to",
    [
        ((), (TO,)),
        ((identity("ses-example.com", LIMITED),), ("ceo@ses-example.com",)),
        ((identity("ses-example.com", LIMITED),), (TO, "ceo@ses-example.com")),
        ((identity("ses-example.com", LIMITED),), (TO, "jane@example.net")),
        ((identity("ses-example.com"),), (TO,)),
        ((identity("ses-example.com", LIMITED, DENY),), (TO,)),
        ((identity("ses-example.com", LIMITED, is_verified=False),), (TO,)),
        ((identity("ses-example.com", LIMITED, paused_reason="sold"),), (TO,)),
        (
            (identity("ses-example.com", LIMITED, paused_delegates={DELEGATE: "bounces"}),),
            (TO,),
        ),
        (
            (identity("ses-example.com", LIMITED), identity(TO, paused_reason="sold")),
            (TO,),
        ),
        (
            (identity("ses-example.com", paused_reason="sold"), identity(TO, grant(TO))),
            (TO,),
        ),
    ],
)
def test_a_report_to_anyone_else_is_refused_as_any_message(
    known: tuple[Identity, ...], to: tuple[str, ...]
) -> None:
    with pytest.raises(Denial) as refused:
        decide(*known, to=to)
    assert refused.value.reason == "not-verified"
    assert "MAILER-DAEMON@relay.example" in str(refused.value.reply)


def test_what_an_owner_denies_of_from_itself_is_final() -> None:
    author = "From: postmaster@ses-example.com\r\n"
    assert decide(identity("ses-example.com", LIMITED), author=author).may_be_unsigned
    denied = grant("ses-example.com", effect="Deny", **only("postmaster@ses-example.com"))
    with pytest.raises(Denial) as refused:
        decide(identity("ses-example.com", LIMITED, denied), author=author)
    assert refused.value.reason == "explicit-deny"


def test_a_sender_without_a_user_policy_sends_no_reports() -> None:
    known = identity("ses-example.com", LIMITED)
    other = policy("user", {"Effect": "Allow", "Action": "ses:SendEmail", "Resource": "*"})
    with pytest.raises(Denial):
        decide(known, principal=sender_of(policies=(other,)))


KEY: Any = object()


@pytest.mark.parametrize("name", ["gate.host.example", "host.example"])
def test_the_gate_s_own_domain_signs_and_never_for_the_domain_of_from(name: str) -> None:
    known = identity("ses-example.com", LIMITED)
    own = identity(name, owner=OTHER, dkim_keys=(KEY,))
    assert decide(known, own).signing_identity is own
    assert decide(known, identity(name, owner=OTHER)).signing_identity is None
    assert (
        decide(known, structs.replace(own, paused_reason="stolen key")).signing_identity is None
    )
    for host in ("gate.host.example", "host.example", "mail.gate.host.example"):
        author = f"From: postmaster@{host}\r\n"
        assert decide(known, own, author=author).signing_identity is None
    theirs = identity("ses-example.com", LIMITED, dkim_keys=(KEY,))
    forged = "From: postmaster@ses-example.com\r\n"
    assert decide(theirs, author=forged).signing_identity is None


def test_who_may_be_mailer_daemon_is_signed_for_as_ever() -> None:
    own = identity("relay.example", owner=sender_of().account.id, dkim_keys=(KEY,))
    found = decide(own, identity("ses-example.com", LIMITED))
    assert found.signing_identity is own
    assert not found.may_be_unsigned
    assert OWNER not in str(found.identities)
