"""Amazon SES's own notifications, as SNS mails them: the upstream may be Amazon SES."""

import json
from typing import Any, Final, cast

from smtpgate.core.feedback.addresses import address_in
from smtpgate.core.feedback.bounds import MAX_DIAGNOSTIC, MAX_RECIPIENTS, MAX_TEXT
from smtpgate.core.feedback.codes import reply_in, status_in
from smtpgate.core.feedback.kinds import BOUNCE_KINDS, UNDETERMINED, BounceKind
from smtpgate.core.feedback.mime import MimeMessage, without_surrogates
from smtpgate.core.feedback.original import id_in
from smtpgate.core.feedback.report import (
    Action,
    FeedbackReport,
    OriginalMessage,
    ReportedRecipient,
    ReportKind,
)

_Object = dict[str, Any]
_TYPES: Final[dict[str, tuple[ReportKind, str, str, Action | None]]] = {
    "Bounce": ("bounce", "bounce", "bouncedRecipients", "failed"),
    "Complaint": ("complaint", "complaint", "complainedRecipients", None),
    "Delivery": ("delivery", "delivery", "recipients", "delivered"),
    "DeliveryDelay": ("delay", "deliveryDelay", "delayedRecipients", "delayed"),
}
_BY_NAME: Final = {f"{kind.type} {kind.subtype}": kind for kind in BOUNCE_KINDS}


def read_sns(message: MimeMessage) -> FeedbackReport | None:
    """The notification that a message contains, or ``None`` if it contains none."""
    for part in message.parts[:2]:
        if part.media_type in {"text/plain", "application/json"}:
            text = part.text[: 4 * MAX_TEXT].lstrip()
            if text.startswith("{") and "Type" in text[:100]:
                return _notification(text)
    return None


def _notification(text: str) -> FeedbackReport | None:
    # Lines of 998 octets at most: some programs cut the JSON text, and indent the next piece.
    joined = text.replace("!\n ", "").replace("\n ", "").replace("\n", "")
    return read_notification(_parsed(text) or _parsed(joined))


def _parsed(text: str) -> _Object:
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return _object(value)


def read_notification(value: _Object) -> FeedbackReport | None:
    """A notification of Amazon SES, alone or in SNS's envelope, or ``None`` if it is none."""
    inner = value.get("Message")
    if value.get("Type") == "Notification" and isinstance(inner, str):
        value = _parsed(inner)  # SNS's envelope
    name = value.get("notificationType") or value.get("eventType")
    if not isinstance(name, str) or name not in _TYPES:
        return None
    kind, key, list_key, action = _TYPES[name]
    detail = _object(value.get(key))
    bounce = _BY_NAME.get(f"{_text(detail, 'bounceType')} {_text(detail, 'bounceSubType')}")
    entries = detail.get(list_key)
    recipients = [
        recipient
        for entry in (entries if isinstance(entries, list) else [])[:MAX_RECIPIENTS]
        if (recipient := _recipient(entry, action, bounce or UNDETERMINED)) is not None
    ]
    headers = _object(_object(value.get("mail")).get("commonHeaders"))
    header_id = _text(headers, "messageId")
    return FeedbackReport(
        kind=kind,
        recipients=tuple(recipients),
        original=OriginalMessage(
            # Its own `messageId' is the upstream's.
            message_id=id_in(header_id),
            header_message_id=header_id,
        ),
        reporting_mta=_text(detail, "reportingMTA"),
        arrival_date=_text(detail, "arrivalDate"),
        feedback_type=_text(detail, "complaintFeedbackType"),
        user_agent=_text(detail, "userAgent"),
    )


def _recipient(
    entry: object, action: Action | None, bounce: BounceKind
) -> ReportedRecipient | None:
    fields = _object(entry)
    address = address_in(
        without_surrogates(entry) if isinstance(entry, str) else _text(fields, "emailAddress")
    )
    if not address:
        return None
    diagnostic = _text(fields, "diagnosticCode")
    return ReportedRecipient(
        address=address,
        action=action,
        status=status_in(_text(fields, "status")),
        reply=reply_in(diagnostic),
        diagnostic=diagnostic,
        kind=bounce if action in {"failed", "delayed"} else None,
    )


def _object(value: object) -> _Object:
    return cast("_Object", value) if isinstance(value, dict) else {}


def _text(fields: _Object, name: str) -> str:
    value = fields.get(name)
    return without_surrogates(value[:MAX_DIAGNOSTIC]) if isinstance(value, str) else ""
