"""The events of a report that came back: bounces, complaints, deliveries and delays.

A report is a stranger's text, sent to an address that its reader may know: that of a message's
return path, which every recipient sees. So it counts only for recipients of that message.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from smtpgate.core.feedback.classify import delay_type
from smtpgate.core.feedback.kinds import UNDETERMINED, BounceKind, complaint_type
from smtpgate.core.feedback.report import FeedbackReport, ReportedRecipient
from smtpgate.core.history.record import Record, owner_of
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    Detail,
    EventRecipient,
    SendingEvent,
    SentMail,
    sending_event,
)


def mail_of(record: Record) -> SentMail:
    """The message of a record, as its events have it; its header fields are not known."""
    return SentMail(
        message_id=record.id,
        sent_at=record.received_at,
        source="" if record.reverse_path is None else str(record.reverse_path),
        destination=tuple(map(str, record.forward_paths or ())),
        account_id=record.account_id,
        identity=record.from_identity,
        owner_id=owner_of(record.from_identity),
        caller=record.user_arn.rpartition("/")[2] or record.account_id,
        source_ip=record.client.address,
        operation="SendRawEmail",
        configuration_set=record.intent.configuration_set,
        tags=record.intent.tags,
        user_arn=record.user_arn,
        access_key=record.username,
    )


def reported_events(
    report: FeedbackReport, record: Record, at: datetime
) -> tuple[SendingEvent, ...]:
    """The events of a report about the message of a record, one for each kind of bounce.

    None if it is about no recipient of that message.
    """
    recipients = _recipients(report.recipients, record)
    mail = mail_of(record)
    if not recipients:
        return ()
    if report.kind == "bounce":
        return tuple(_bounces(report, recipients, mail, at))
    detail = _detail(report, recipients[0][1], mail, at)
    known = [_event_recipient(address, one) for address, one in recipients]
    return () if detail is None else (sending_event(at, mail, known, detail),)


def _detail(
    report: FeedbackReport, first: ReportedRecipient, mail: SentMail, at: datetime
) -> Detail | None:
    """The detail of a report that is no bounce, with the words about its first recipient."""
    match report.kind:
        case "complaint":
            return ComplaintDetail("", complaint_type(report.feedback_type), report.user_agent)
        case "delivery":
            return DeliveryDetail(
                processing_ms=max(0, round((at - mail.sent_at) / timedelta(milliseconds=1))),
                smtp_response=first.diagnostic.removeprefix("smtp; "),
                reporting_mta=report.reporting_mta,
                remote_mta_ip=report.remote_ip,
            )
        case "delay":
            kind = delay_type(first.status, first.reply, first.diagnostic)
            return DelayDetail(kind, reporting_mta=report.reporting_mta)
        case _:
            return None


def _bounces(
    report: FeedbackReport,
    recipients: Sequence[tuple[str, ReportedRecipient]],
    mail: SentMail,
    at: datetime,
) -> Iterator[SendingEvent]:
    by_kind: dict[BounceKind, list[EventRecipient]] = {}
    for address, one in recipients:
        known = by_kind.setdefault(one.kind or UNDETERMINED, [])
        known.append(_event_recipient(address, one))
    for kind, known in by_kind.items():
        detail = BounceDetail(kind, report.reporting_mta, report.remote_ip)
        yield sending_event(at, mail, known, detail)


def _recipients(
    reported: Sequence[ReportedRecipient], record: Record
) -> list[tuple[str, ReportedRecipient]]:
    """Those that the message was sent to, with the address that it was sent to.

    A lone recipient is meant whatever it is called: a server may report an address that mail of
    the recipient was forwarded to.
    """
    sent_to = record.forward_paths
    if sent_to is None:
        known = reported if record.recipients > 1 else reported[:1]
        return [(one.address, one) for one in known]
    if len(sent_to) == 1:
        return [(str(sent_to[0]), reported[0] if reported else ReportedRecipient(""))]
    addresses = {str(mailbox).casefold(): str(mailbox) for mailbox in sent_to}
    found = ((addresses.get(one.sent_to.casefold()), one) for one in reported)
    return [(address, one) for address, one in found if address is not None]


def _event_recipient(address: str, one: ReportedRecipient) -> EventRecipient:
    return EventRecipient(address, one.action or "", one.status, one.diagnostic)
