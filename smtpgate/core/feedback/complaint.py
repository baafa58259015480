"""Complaints: feedback reports of RFC 5965, and the forms of providers that send others."""

from typing import Final

from smtpgate.core.feedback.addresses import address_in, addresses_in, same_key
from smtpgate.core.feedback.bounds import MAX_DIAGNOSTIC, MAX_RECIPIENTS
from smtpgate.core.feedback.mime import Fields, MimeMessage, read_fields, split
from smtpgate.core.feedback.report import FeedbackReport, ReportedRecipient

_FEEDBACK: Final = "message/feedback-report"
# Fields of the returned message in which providers name who complained.
_COMPLAINERS: Final = ("x-hmxmroriginalrecipient", "x-original-to", "delivered-to", "to")


def read_complaint(message: MimeMessage) -> FeedbackReport | None:
    """The complaint that a message is, or ``None`` if it is none."""
    for part in message.parts:
        if part.media_type == _FEEDBACK:
            return _of_fields(read_fields(part.content), message)
    if _is_of_hotmail(message):
        return _complaint("abuse", _named_in_original(message))
    if _is_unsubscription(message):
        return _complaint("opt-out", addresses_in(message.fields.first("from"))[:1])
    return None


def _of_fields(fields: Fields, message: MimeMessage) -> FeedbackReport:
    named = (
        *fields.all("original-rcpt-to"),
        *fields.all("removal-recipient"),
        *fields.all("redacted-address"),
    )
    recipients = tuple([address for one in named if (address := address_in(one))])
    report = _complaint(
        fields.first("feedback-type").strip().lower()[:40] or "other",
        recipients or _named_in_original(message),
    )
    arrival = fields.first("arrival-date") or fields.first("received-date")
    return FeedbackReport(
        kind=report.kind,
        recipients=report.recipients,
        reporting_mta=fields.first("reporting-mta")[:MAX_DIAGNOSTIC],
        arrival_date=arrival[:MAX_DIAGNOSTIC],
        feedback_type=report.feedback_type,
        user_agent=fields.first("user-agent")[:MAX_DIAGNOSTIC],
    )


def _complaint(feedback_type: str, addresses: tuple[str, ...]) -> FeedbackReport:
    by_key = {same_key(address): address for address in addresses[:MAX_RECIPIENTS]}
    recipients = tuple([ReportedRecipient(address) for address in by_key.values()])
    return FeedbackReport(kind="complaint", recipients=recipients, feedback_type=feedback_type)


def _named_in_original(message: MimeMessage) -> tuple[str, ...]:
    for part in message.parts:
        if part.is_message:
            fields = split(part.content)[0]
            for name in _COMPLAINERS:
                found = addresses_in(" ".join(fields.all(name)))
                if found:
                    return found
    return ()


def _is_of_hotmail(message: MimeMessage) -> bool:
    """Outlook.com's Junk Mail Reporting Program returns the message, without a report."""
    subject = message.fields.first("subject").lower()
    return (
        subject.startswith("complaint about message from ")
        and message.media_type.startswith("multipart/")
        and any(part.is_message for part in message.parts)
    )


def _is_unsubscription(message: MimeMessage) -> bool:
    """Apple's Mail sends one when its user asks for it, to the address that the list names."""
    return message.fields.first("auto-submitted").startswith("auto-replied") and any(
        part.media_type == "text/plain"
        and part.text.lstrip()[:200].startswith("Apple Mail sent this email to unsubscribe")
        for part in message.parts[:2]
    )
