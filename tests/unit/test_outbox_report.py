"""Reports about refused recipients, as other programs read them."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from msgspec.structs import replace

from smtpgate.core.address import Mailbox, parse_mailbox
from smtpgate.core.feedback.simulator import SIMULATIONS, SIMULATOR_DOMAIN
from smtpgate.core.message.envelope import Recipient
from smtpgate.core.outbox.answer import answer_of
from smtpgate.core.outbox.event import BounceDetail, SentMail
from smtpgate.core.outbox.refusals import bounce, to_report
from smtpgate.core.outbox.report import report_of
from smtpgate.core.outbox.task import Destination, Task
from smtpgate.core.reply import Reply
from smtpgate.core.suppression.withheld import Withheld, is_answered, withheld_events
from smtpgate.core.upstream.delivery import RecipientReply
from tests.support.reports import read_report
from tests.support.world import DELEGATE

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GONE = Reply(550, "5.1.1", "no such user")
ID = "0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000"
ORIGINAL = b"From: a@example.com\r\nSubject: Spring\r\n"


def report(
    *refused: str,
    to: str = "bounces@example.com",
    original: bytes = ORIGINAL,
    reply: Reply = GONE,
) -> bytes:
    """The octets of a report about recipients."""
    mail = SentMail("0100019b7c0000aa-1-2-3-4-000000", AT, to, refused, DELEGATE)
    mailboxes = [Mailbox(*one.rsplit("@", 1)) for one in refused]
    recipients = [Recipient(one) for one in mailboxes]
    event = bounce(
        mail, recipients, [RecipientReply(o, reply) for o in mailboxes], AT, "g.test"
    )
    task = Task(event, Destination("mail", to), original, "an id")
    block, body = report_of(task, "g.test")
    return b"".join([*block.raw_parts, b"\r\n", body])


def parts(octets: bytes) -> list[EmailMessage]:
    message: Any = message_from_bytes(octets, policy=policy.default)
    assert not message.defects
    found = list(message.iter_parts())
    assert not any(part.defects for part in found)
    return found


def test_a_report_is_ascii_for_a_sender_with_an_ascii_address() -> None:
    octets = report("böb@exämple.net", original="Subject: Frühling\r\n".encode())
    assert octets.isascii()
    words, status, original = parts(octets)
    assert "böb@exämple.net" in words.get_content()
    group: Any = status.get_payload(1)
    assert group["Final-Recipient"] == "utf-8;b\\x{F6}b@ex\\x{E4}mple.net"
    assert original.get_content_type() == "message/global-headers"


def test_a_report_is_utf8_for_a_sender_with_such_an_address() -> None:
    octets = report("böb@example.net", to="jürgen@example.com")
    assert b"Final-Recipient: utf-8;b\xc3\xb6b@example.net" in octets
    assert b"message/global-delivery-status" in octets
    assert "To: <jürgen@example.com>".encode() in octets


def test_the_same_task_makes_the_same_report() -> None:
    assert report("bob@example.net") == report("bob@example.net")


@pytest.mark.parametrize("text", ["two\r\nlines", "\x00", "x" * 5000, "ünicode"])
def test_no_text_of_a_server_breaks_the_report(text: str) -> None:
    octets = report("bob@example.net", reply=Reply(550, "5.7.1", text))
    _, status, _ = parts(octets)
    group: Any = status.get_payload(1)
    assert group["Status"] == "5.7.1"
    assert all(len(line) < 999 for line in octets.split(b"\r\n"))
    assert b"\n" not in octets.replace(b"\r\n", b"")


def test_the_gate_reads_its_own_reports() -> None:
    read = read_report(report("bob@example.net", "carol@example.net"))
    assert read.kind == "bounce"
    assert [one.address for one in read.recipients] == ["bob@example.net", "carol@example.net"]


@pytest.mark.parametrize(
    ("notify", "is_reported"),
    [((), True), (("FAILURE", "DELAY"), True), (("NEVER",), False), (("SUCCESS",), False)],
)
def test_a_recipient_is_reported_unless_its_sender_wants_no_report(
    notify: Any,  # noqa: ANN401 - words
    is_reported: bool,
) -> None:
    mailbox = Mailbox("bob", "example.net")
    refused = [RecipientReply(mailbox, GONE)]
    assert bool(to_report([Recipient(mailbox, frozenset(notify))], refused)) is is_reported


@pytest.mark.parametrize(
    ("recipient", "simulation", "subject", "subtype"),
    [
        ("jane@example.org", None, "recipients suppressed", "OnAccountSuppressionList"),
        (f"bounce@{SIMULATOR_DOMAIN}", "bounce", "simulated bounce", "General"),
    ],
)
def test_a_recipient_that_is_not_sent_to_is_reported_as_it_is(
    recipient: str, simulation: str | None, subject: str, subtype: str
) -> None:
    mailbox = parse_mailbox(recipient)
    withheld = Withheld(mailbox, SIMULATIONS[simulation] if simulation else None)
    mail = SentMail(ID, AT, "bounces@example.com", (recipient,), DELEGATE)
    (event,) = withheld_events(mail, [Recipient(mailbox)], [withheld], AT, "g.test")
    assert isinstance(event.detail, BounceDetail)
    assert event.detail.bounce.subtype == subtype
    task = Task(event, Destination("mail", mail.source), ORIGINAL)
    block, body = report_of(task, "g.test")
    octets = b"".join([*block.raw_parts, b"\r\n", body])
    assert subject.encode() in octets
    words, status, _ = parts(octets)
    assert "x-smtpgate" not in words.get_content()
    group: Any = status.get_payload(1)
    assert group["Diagnostic-Code"].partition("; ")[0] in ("smtp", "x-smtpgate")
    assert read_report(octets).recipients[0].address == recipient


def test_a_complaint_is_reported_in_a_form_that_can_be_read_again() -> None:
    mailbox = parse_mailbox(f"complaint@{SIMULATOR_DOMAIN}")
    mail = SentMail(ID, AT, "bounces@example.com", (str(mailbox),), DELEGATE)
    withheld = Withheld(mailbox, SIMULATIONS["complaint"])
    delivery, complaint = withheld_events(mail, [Recipient(mailbox)], [withheld], AT, "g.test")
    assert (delivery.kind, complaint.kind) == ("Delivery", "Complaint")
    block, body = report_of(
        Task(complaint, Destination("mail", mail.source), ORIGINAL), "g.test"
    )
    octets = b"".join([*block.raw_parts, b"\r\n", body])
    read = read_report(octets)
    assert (read.kind, read.feedback_type) == ("complaint", "abuse")
    assert [one.address for one in read.recipients] == [str(mailbox)]


def test_an_automatic_answer_names_the_message_that_it_answers() -> None:
    mailbox = parse_mailbox(f"ooto@{SIMULATOR_DOMAIN}")
    headers = (("Message-ID", "<1@example.com>"),)
    mail = SentMail(ID, AT, "a@example.com", (str(mailbox),), DELEGATE, headers=headers)
    withheld = Withheld(mailbox, SIMULATIONS["ooto"])
    (event,) = withheld_events(mail, [Recipient(mailbox)], [withheld], AT, "g.test")
    assert is_answered(event, [withheld])
    assert not is_answered(replace(event, mail=replace(mail, source="")), [withheld])
    block, body = answer_of(
        Task(event, Destination("mail", mail.source, "", "answer")), "g.test"
    )
    octets = b"".join([*block.raw_parts, b"\r\n", body])
    assert b"In-Reply-To: <1@example.com>\r\n" in octets
    assert read_report(octets).kind == "answer"
