"""The JSON of SES: notifications of an identity, and events of a configuration set."""

import json
from typing import Any, Final, assert_never

from smtpgate.core.notification.mail import event_mail, notification_mail, timestamp
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    EventKind,
    EventRecipient,
    NoticeDetail,
    RejectDetail,
    RenderingFailureDetail,
    SendDetail,
    SendingEvent,
)

# The names of the objects with the details, and true where ``mail`` comes before them.
_OBJECTS: Final[dict[EventKind, tuple[str, bool]]] = {
    "Send": ("send", True),
    "Reject": ("reject", True),
    "Bounce": ("bounce", False),
    "Complaint": ("complaint", False),
    "Delivery": ("delivery", True),
    "DeliveryDelay": ("deliveryDelay", True),
    "RenderingFailure": ("failure", True),
}
# Kinds that SES writes in two words.
_WRITTEN: Final[dict[EventKind, str]] = {"RenderingFailure": "Rendering Failure"}
EVENT_SUBJECT: Final = "Amazon SES Email Event Notification"
"""The subject of events in SNS's envelope; notifications of identities have none."""
EVENT_TOPIC_TEST: Final = "Successfully validated SNS topic for Amazon SES event publishing."
"""The message to a topic when an event destination begins to use it; it is no JSON."""


def notification(event: SendingEvent, *, with_headers: bool) -> dict[str, Any]:
    """The notification of an identity: of a bounce, complaint or delivery."""
    mail = notification_mail(event.mail, with_headers=with_headers)
    return _ordered("notificationType", event, mail, _details(event))


def notification_json(event: SendingEvent, *, with_headers: bool) -> str:
    """The same as a text."""
    return _dumps(notification(event, with_headers=with_headers))


def event_json(event: SendingEvent) -> str:
    """The event of a configuration set. SES ends it with a line end."""
    details = _details(event)
    if isinstance(event.detail, DeliveryDetail):
        details.pop("remoteMtaIp", None)  # only in notifications
    return _dumps(_ordered("eventType", event, event_mail(event.mail), details)) + "\n"


def topic_test_json() -> str:
    """The message that SES sends to a topic when an identity begins to use it."""
    text = "You have successfully subscribed your Amazon SNS topic to receive notifications."
    return _dumps({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": text})


def _ordered(
    discriminator: str, event: SendingEvent, mail: dict[str, Any], details: dict[str, Any]
) -> dict[str, Any]:
    name, mail_first = _OBJECTS[event.kind]
    first, second = ("mail", mail), (name, details)
    if not mail_first:
        first, second = second, first
    kind = _WRITTEN.get(event.kind, event.kind)
    return {discriminator: kind, first[0]: first[1], second[0]: second[1]}


def _details(event: SendingEvent) -> dict[str, Any]:
    match event.detail:
        case SendDetail() | NoticeDetail():  # a notice is never one of these
            return {}
        case RejectDetail() | RenderingFailureDetail() as detail:
            return _unsent(detail)
        case BounceDetail() as detail:
            return _bounce(event, detail)
        case ComplaintDetail() as detail:
            return _complaint(event, detail)
        case DeliveryDetail() as detail:
            return _delivery(event, detail)
        case DelayDetail() as detail:
            return _delay(event, detail)
        case _:
            assert_never(event.detail)


def _unsent(detail: RejectDetail | RenderingFailureDetail) -> dict[str, Any]:
    if isinstance(detail, RejectDetail):
        return {"reason": detail.reason}
    return {"errorMessage": detail.error_message, "templateName": detail.template_name}


def _bounce(event: SendingEvent, detail: BounceDetail) -> dict[str, Any]:
    return {
        "bounceType": detail.bounce.type,
        "bounceSubType": detail.bounce.subtype,
        "bouncedRecipients": _recipients(event),
        "timestamp": timestamp(event.at),
        "feedbackId": event.id,
        **_present(remoteMtaIp=detail.remote_mta_ip, reportingMTA=detail.reporting_mta),
    }


def _complaint(event: SendingEvent, detail: ComplaintDetail) -> dict[str, Any]:
    return {
        "complainedRecipients": [{"emailAddress": one.address} for one in event.recipients],
        "timestamp": timestamp(event.at),
        "feedbackId": event.id,
        "complaintSubType": detail.subtype or None,
        **_present(
            userAgent=detail.user_agent,
            complaintFeedbackType=detail.feedback_type,
            arrivalDate=timestamp(detail.arrived_at) if detail.arrived_at else "",
        ),
    }


def _delivery(event: SendingEvent, detail: DeliveryDetail) -> dict[str, Any]:
    return {
        "timestamp": timestamp(event.at),
        "processingTimeMillis": detail.processing_ms,
        "recipients": [one.address for one in event.recipients],
        "smtpResponse": detail.smtp_response,
        "reportingMTA": detail.reporting_mta,
        **_present(remoteMtaIp=detail.remote_mta_ip),
    }


def _delay(event: SendingEvent, detail: DelayDetail) -> dict[str, Any]:
    return {
        "timestamp": timestamp(event.at),
        "delayType": detail.delay_type,
        **_present(expirationTime=timestamp(detail.expires_at) if detail.expires_at else ""),
        "delayedRecipients": _recipients(event),
        **_present(reportingMTA=detail.reporting_mta),
    }


def _recipients(event: SendingEvent) -> list[dict[str, str]]:
    return [_recipient(one) for one in event.recipients]


def _recipient(one: EventRecipient) -> dict[str, str]:
    return {
        "emailAddress": one.address,
        **_present(action=one.action, status=one.status, diagnosticCode=one.diagnostic),
    }


def _present(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}


def _dumps(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
