"""The events that follow from a report: each recipient has that of its own action."""

from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import structs

from smtpgate.core.address import Mailbox
from smtpgate.core.feedback.kinds import MAILBOX_FULL, NO_EMAIL, UNDETERMINED
from smtpgate.core.feedback.report import FeedbackReport, ReportedRecipient
from smtpgate.core.history.record import Record
from smtpgate.core.history.reported import mail_of, reported_events
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    Detail,
    SendingEvent,
)
from smtpgate.core.outbox.refusals import bounce
from smtpgate.core.reply import Reply
from smtpgate.core.upstream.delivery import RecipientReply
from tests.support.events import AT, done
from tests.support.records import submission_record
from tests.support.reports import read_report
from tests.support.rows import rows

RECORD: Final = submission_record(done(recipients=4), keep_recipients=True, keep_subject=False)
LONE: Final = submission_record(done(), keep_recipients=True, keep_subject=False)
NOW: Final = AT + timedelta(minutes=5)
MTA: Final = "dns; mx.example.net"
STATUS: Final = """\
From: MAILER-DAEMON@mx.example.net
Subject: Delivery status
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="cut"

--cut
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

{groups}
--cut--
"""


def to(number: int, action: str, status: str, words: str = "", more: str = "") -> str:
    """The group of fields of a recipient."""
    diagnostic = f"Diagnostic-Code: smtp; {words}\n" if words else ""
    return (
        f"Final-Recipient: rfc822; jane{number}@example.net\nAction: {action}\n"
        f"Status: {status}\n{diagnostic}{more}"
    )


def until(date: str) -> str:
    """The group of a recipient whose server tries again until then."""
    return to(2, "delayed", "4.2.2", more=f"Will-Retry-Until: {date}\n")


def events_of(*groups: str, record: Record = RECORD) -> list[tuple[Detail, list[str]]]:
    """The details of the events, with their recipients."""
    text = STATUS.format(groups="\n".join(groups)).replace("\n", "\r\n")
    found = reported_events(read_report(text.encode()), record, NOW)
    return [(one.detail, [each.address for each in one.recipients]) for one in found]


UNKNOWN: Final = to(0, "failed", "5.1.1", "550 5.1.1 User unknown")
FULL: Final = to(1, "failed", "5.2.2", "552 5.2.2 Mailbox full")
LATER: Final = to(2, "delayed", "4.4.1", "connection timed out")
THERE: Final = to(3, "delivered", "2.0.0", "250 2.0.0 Ok")
NO_SUCH: Final = (BounceDetail(NO_EMAIL, MTA), ["jane0@example.net"])
OVER_QUOTA: Final = (BounceDetail(MAILBOX_FULL, MTA), ["jane1@example.net"])
DELAYED: Final = (
    DelayDetail("TransientCommunicationFailure", None, MTA),
    ["jane2@example.net"],
)
DELIVERED: Final = (
    DeliveryDetail(300_000, "250 2.0.0 Ok", MTA),
    ["jane3@example.net"],
)
UNTIL: Final = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)

CASES: Final = {
    "a failure": ((UNKNOWN,), [NO_SUCH]),
    "failures of two kinds": ((UNKNOWN, FULL), [NO_SUCH, OVER_QUOTA]),
    "a delay": ((LATER,), [DELAYED]),
    "a delivery": ((THERE,), [DELIVERED]),
    "a failure beside a delay and a delivery": (
        (LATER, UNKNOWN, THERE),
        [DELAYED, NO_SUCH, DELIVERED],
    ),
    "a relay beside a delay": (
        (to(3, "relayed", "2.0.0", "250 2.0.0 Ok"), LATER),
        [DELIVERED, DELAYED],
    ),
    "a delay with its end": (
        (until("Wed, 25 Nov 2026 09:00:00 +0100"),),
        [(DelayDetail("MailboxFull", UNTIL, MTA), ["jane2@example.net"])],
    ),
    "a delay whose end has passed": (
        (until("Sun, 1 Nov 2026 09:00:00 +0100"),),
        [(DelayDetail("MailboxFull", None, MTA), ["jane2@example.net"])],
    ),
    "a delay whose end cannot be read": (
        (until("Wed, 99 Nov 2026 99:00"),),
        [(DelayDetail("MailboxFull", None, MTA), ["jane2@example.net"])],
    ),
    "another's recipient": ((to(9, "failed", "5.1.1"),), []),
}


@rows("groups, events", CASES.values(), ids=CASES)
def test_each_recipient_has_the_event_of_its_own_action(
    groups: tuple[str, ...], events: list[tuple[Detail, list[str]]]
) -> None:
    assert events_of(*groups) == events


def test_a_lone_recipient_has_the_worst_of_what_is_reported() -> None:
    ((detail, addresses),) = events_of(THERE, UNKNOWN, record=LONE)
    assert (detail, addresses) == NO_SUCH


def test_a_report_without_actions_is_of_one_kind() -> None:
    report = FeedbackReport("bounce", (ReportedRecipient("jane0@example.net"),))
    (event,) = reported_events(report, RECORD, NOW)
    assert event.detail == BounceDetail(UNDETERMINED)
    report = structs.replace(report, kind="complaint", feedback_type="abuse")
    (event,) = reported_events(report, RECORD, NOW)
    assert event.detail == ComplaintDetail("", "abuse", "")
    assert reported_events(structs.replace(report, kind="answer"), RECORD, NOW) == ()


def test_events_have_the_sender_its_key_and_its_configuration_set() -> None:
    intent = structs.replace(RECORD.intent, configuration_set="news", tags=(("a", ("b",)),))
    record = structs.replace(RECORD, intent=intent)
    report = FeedbackReport("bounce", (ReportedRecipient("jane0@example.net"),))
    (event,) = reported_events(report, record, NOW)
    mail = event.mail
    assert (mail.configuration_set, mail.tags) == ("news", (("a", ("b",)),))
    assert (mail.user_arn, mail.access_key) == (record.user_arn, record.username)
    assert mail.access_key == "AKIAIOSFODNN7EXAMPLE"
    assert mail.destination == tuple(
        str(Mailbox(f"jane{number}", "example.net")) for number in range(4)
    )


def test_a_fact_is_one_event_however_reports_group_recipients() -> None:
    """Or a reader of the message could report each subset of its recipients."""
    together = failed(UNKNOWN, to(1, "failed", "5.1.1", "550 5.1.1 User unknown"))
    alone = failed(UNKNOWN) + failed(to(1, "failed", "5.1.1", "550 5.1.1 No such mailbox"))
    assert [one.id for one in together] == [one.id for one in alone]
    assert len({one.id for one in together}) == 2
    assert [one.id for one in failed(UNKNOWN, UNKNOWN)] == [together[0].id]


def test_a_report_has_the_event_of_a_refusal_by_the_upstream() -> None:
    mail = mail_of(RECORD)
    path = Mailbox("jane0", "example.net")
    refusal = RecipientReply(path, Reply(550, "5.1.1", "User unknown"))
    refused = bounce(mail, (), [refusal], NOW, "mail.example.com")
    assert [one.id for one in failed(UNKNOWN)] == [refused.id]


def failed(*groups: str) -> tuple[SendingEvent, ...]:
    text = STATUS.format(groups="\n".join(groups)).replace("\n", "\r\n")
    return reported_events(read_report(text.encode()), RECORD, NOW)
