"""Any octets as a report: a bounce, a complaint, a notice of delivery, or none of these."""

import re
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from smtpgate.core.feedback.addresses import addresses_in
from smtpgate.core.feedback.answers import is_answer
from smtpgate.core.feedback.classify import classify, commands_in
from smtpgate.core.feedback.complaint import read_complaint
from smtpgate.core.feedback.kinds import BounceKind
from smtpgate.core.feedback.mime import MimeMessage, read_fields, read_message
from smtpgate.core.feedback.notice import notice_text, read_notice
from smtpgate.core.feedback.original import original_of
from smtpgate.core.feedback.report import (
    NO_REPORT,
    FeedbackReport,
    OriginalMessage,
    ReportedRecipient,
    ReportKind,
)
from smtpgate.core.feedback.sns import read_sns
from smtpgate.core.feedback.status import (
    DeliveryStatus,
    has_status_fields,
    read_status,
    read_status_text,
)

_DISPOSITION: Final = "message/disposition-notification"
_REJECTED: Final = re.compile(r"automatic-action/[a-z-]{1,40}\s{0,4};\s{0,4}deleted.{0,40}")
_STATUS_TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})


def read_parts(message: MimeMessage) -> FeedbackReport:
    """Read a message that came back. Never raises; time and memory are bounded."""
    report = _read(message)
    if report.original.message_id is not None:  # in the words of the report itself
        return report
    return replace(report, original=original_of(message, report.original.envelope_id))


def _read(message: MimeMessage) -> FeedbackReport:
    report = _read_itself(message)
    if report.kind != "none":
        return report
    inner = _forwarded(message)
    return NO_REPORT if inner is None else _read_itself(inner)


def _read_itself(message: MimeMessage) -> FeedbackReport:
    return next(filter(None, (read(message) for read in _READERS)), NO_REPORT)


def _of_status(message: MimeMessage) -> FeedbackReport | None:
    status = _status(message)
    if status is None or not status.recipients:
        return None
    return _about(status, message)


def _of_disposition(message: MimeMessage) -> FeedbackReport | None:
    """A receipt (RFC 8098), or the rejection by a recipient's filter (RFC 5429 §2.1.2)."""
    part = next((one for one in message.parts if one.media_type == _DISPOSITION), None)
    if part is None:
        return None
    status = read_status(part.content)
    disposition = read_fields(part.content).first("disposition").lower()
    if not status.recipients or not _REJECTED.fullmatch(disposition):
        return FeedbackReport("answer", status.recipients)
    failed = [replace(one, action="failed") for one in status.recipients]
    return _about(status._replace(recipients=tuple(failed)), message)


def _of_notice(message: MimeMessage) -> FeedbackReport | None:
    recipients = read_notice(message)
    if not recipients:
        return None
    return report_about(recipients, FeedbackReport(), notice_text(message))


def _of_answer(message: MimeMessage) -> FeedbackReport | None:
    if not is_answer(message.fields):
        return None
    sender = addresses_in(message.fields.first("from"))[:1]
    return FeedbackReport("answer", tuple([ReportedRecipient(one) for one in sender]))


# The most certain forms come first.
_READERS: Final = (
    read_complaint,
    read_sns,
    _of_status,
    _of_disposition,
    _of_notice,
    _of_answer,
)


def _forwarded(message: MimeMessage) -> MimeMessage | None:
    """A report that a mail scanner forwards as the only part of a message of its own."""
    messages = [part for part in message.parts if part.is_message]
    if len(messages) != 1 or not message.media_type.startswith("multipart/"):
        return None
    inner = read_message(messages[0].content)
    return inner if inner.media_type == "multipart/report" else None


def _status(message: MimeMessage) -> DeliveryStatus | None:
    """The delivery status of a message: from its own part, or from fields in its text."""
    for part in message.parts:
        if part.media_type in _STATUS_TYPES:
            status = read_status(part.content)
            if status.recipients:
                return status
    text = notice_text(message)
    return read_status_text(text) if has_status_fields(text) else None


def _about(status: DeliveryStatus, message: MimeMessage) -> FeedbackReport:
    base = FeedbackReport(
        original=OriginalMessage(envelope_id=status.envelope_id),
        reporting_mta=status.reporting_mta,
        arrival_date=status.arrival_date,
    )
    return report_about(status.recipients, base, notice_text(message))


def report_about(
    recipients: tuple[ReportedRecipient, ...], base: FeedbackReport, text: str
) -> FeedbackReport:
    """A report about these recipients. A text is about one only if there are no others."""
    own_text = text if len(recipients) == 1 else ""
    shown = commands_in(text)
    # Servers say the same of many recipients.
    kinds: dict[tuple[str, str, str], BounceKind] = {}
    classified: list[ReportedRecipient] = []
    for one in recipients:
        if one.action not in {"failed", "delayed"}:
            classified.append(one)
            continue
        said = (one.status, one.reply, one.diagnostic)
        if said not in kinds:
            kinds[said] = classify(*said, own_text, shown)
        classified.append(replace(one, kind=kinds[said]))
    return replace(base, kind=_kind(classified), recipients=tuple(classified))


def _kind(recipients: Iterable[ReportedRecipient]) -> ReportKind:
    actions = {one.action for one in recipients}
    if "failed" in actions:
        return "bounce"
    if "delayed" in actions:
        return "delay"
    return "delivery"
