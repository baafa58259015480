"""The events of a report that came back: bounces, complaints, deliveries and delays.

A report is a stranger's text, sent to an address that its reader may know: that of a message's
return path, which every recipient sees. So it counts only for recipients of that message.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from smtpgate.core.feedback.classify import delay_type
from smtpgate.core.feedback.kinds import UNDETERMINED, complaint_type
from smtpgate.core.feedback.report import Action, FeedbackReport, ReportedRecipient, ReportKind
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


# The kind of event that a recipient's action means, in whatever report it is.
_BY_ACTION: Final[Mapping[Action, ReportKind]] = {
    "failed": "bounce",
    "delayed": "delay",
    "delivered": "delivery",
    "relayed": "delivery",
    "expanded": "delivery",
}


def reported_events(
    report: FeedbackReport, record: Record, at: datetime
) -> tuple[SendingEvent, ...]:
    """The events of a report about the message of a record.

    Each recipient has an event of its own, as it has where the upstream refuses it. So the
    same fact is the same event, however servers, or strangers, group recipients in reports.
    None if it is about no recipient of that message.
    """
    mail = mail_of(record)
    known: dict[str, SendingEvent] = {}
    for address, one in _recipients(report.recipients, record):
        detail = _detail(report, one, mail, at)
        if detail is not None:
            event = sending_event(at, mail, [_event_recipient(address, one)], detail)
            known.setdefault(event.id, event)
    return tuple(known.values())


def _detail(
    report: FeedbackReport, one: ReportedRecipient, mail: SentMail, at: datetime
) -> Detail | None:
    """The detail of the event of one recipient."""
    kind = report.kind
    if kind in {"bounce", "delay", "delivery"} and one.action is not None:
        kind = _BY_ACTION[one.action]
    match kind:
        case "bounce":
            bounce = one.kind or UNDETERMINED
            return BounceDetail(bounce, report.reporting_mta, report.remote_ip)
        case "complaint":
            return ComplaintDetail("", complaint_type(report.feedback_type), report.user_agent)
        case "delivery":
            return DeliveryDetail(
                processing_ms=max(0, round((at - mail.sent_at) / timedelta(milliseconds=1))),
                smtp_response=one.diagnostic.removeprefix("smtp; "),
                reporting_mta=report.reporting_mta,
                remote_mta_ip=report.remote_ip,
            )
        case "delay":
            until = one.retry_until
            return DelayDetail(
                delay_type(one.status, one.reply, one.diagnostic),
                expires_at=until if until is not None and until > at else None,
                reporting_mta=report.reporting_mta,
            )
        case _:
            return None


def _recipients(
    reported: Sequence[ReportedRecipient], record: Record
) -> list[tuple[str, ReportedRecipient]]:
    """Those that the message was sent to, with the address that it was sent to.

    A lone recipient is meant whatever it is called: a server may report an address that mail of
    the recipient was forwarded to. A record without recipients proves nobody.
    """
    sent_to = record.forward_paths or ()
    if len(sent_to) == record.recipients == 1:
        return [(str(sent_to[0]), min(reported, key=_rank, default=ReportedRecipient("")))]
    addresses = {str(mailbox).casefold(): str(mailbox) for mailbox in sent_to}
    found = ((addresses.get(one.sent_to.casefold()), one) for one in reported)
    return [(address, one) for address, one in found if address is not None]


def _rank(one: ReportedRecipient) -> int:
    """0 for a failure, 1 for a delay, 2 for anything else."""
    return {"failed": 0, "delayed": 1}.get(one.action or "", 2)


def _event_recipient(address: str, one: ReportedRecipient) -> EventRecipient:
    return EventRecipient(address, one.action or "", one.status, one.diagnostic)
