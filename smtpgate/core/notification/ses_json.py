"""The JSON of SES: notifications of an identity, and events of a configuration set."""

import json
from typing import Any, Final

from smtpgate.core.notification.details import DeliveryDetails, EventDetails, EventKind
from smtpgate.core.notification.mail import Mail, event_mail, notification_mail

# The names of the objects with the details, and true where ``mail`` comes before them.
_OBJECTS: Final[dict[EventKind, tuple[str, bool]]] = {
    "Send": ("send", True),
    "Reject": ("reject", True),
    "Bounce": ("bounce", False),
    "Complaint": ("complaint", False),
    "Delivery": ("delivery", True),
    "DeliveryDelay": ("deliveryDelay", True),
}


def notification(mail: Mail, details: EventDetails, *, with_headers: bool) -> dict[str, Any]:
    """The notification of an identity: of a bounce, complaint or delivery."""
    shown = notification_mail(mail, with_headers=with_headers)
    return _ordered("notificationType", details.kind, shown, details.json())


def notification_json(mail: Mail, details: EventDetails, *, with_headers: bool) -> str:
    """The same as a text."""
    return _dumps(notification(mail, details, with_headers=with_headers))


def event_json(mail: Mail, details: EventDetails) -> str:
    """The event of a configuration set. SES ends it with a line end."""
    inner, outgoing_ip = details.json(), ""
    if isinstance(details, DeliveryDetails):
        outgoing_ip = details.outgoing_ip
        inner.pop("remoteMtaIp", None)  # only in notifications
    shown = event_mail(mail, [("ses:outgoing-ip", outgoing_ip)])
    return _dumps(_ordered("eventType", details.kind, shown, inner)) + "\n"


def topic_test_json() -> str:
    """The message that SES sends to a topic when an identity begins to use it."""
    text = "You have successfully subscribed your Amazon SNS topic to receive notifications."
    return _dumps({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": text})


EVENT_TOPIC_TEST: Final = "Successfully validated SNS topic for Amazon SES event publishing."
"""The message to a topic when an event destination begins to use it; it is no JSON."""
EVENT_SUBJECT: Final = "Amazon SES Email Event Notification"
"""The subject of events in SNS's envelope; notifications of identities have none."""


def _ordered(
    discriminator: str, kind: EventKind, mail: dict[str, Any], inner: dict[str, Any]
) -> dict[str, Any]:
    name, mail_first = _OBJECTS[kind]
    first, second = (("mail", mail), (name, inner))
    if not mail_first:
        first, second = second, first
    return {discriminator: kind, first[0]: first[1], second[0]: second[1]}


def _dumps(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
