"""The details of each kind of event: bounce, complaint, delivery and the others."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from smtpgate.core.notification.mail import timestamp

EventKind = Literal["Send", "Reject", "Bounce", "Complaint", "Delivery", "DeliveryDelay"]
NotificationKind = Literal["Bounce", "Complaint", "Delivery"]

NOTIFICATION_KINDS: Final[tuple[NotificationKind, ...]] = ("Bounce", "Complaint", "Delivery")
# The types of events, as the operations of both versions of SES's API spell them. The gate has
# no events of the kind None, because it neither rewrites bodies nor renders templates; an
# event destination may list them, so that existing configurations work.
EVENT_TYPES: Final[Mapping[str, EventKind | None]] = MappingProxyType(
    {
        "SEND": "Send",
        "REJECT": "Reject",
        "BOUNCE": "Bounce",
        "COMPLAINT": "Complaint",
        "DELIVERY": "Delivery",
        "DELIVERY_DELAY": "DeliveryDelay",
        "OPEN": None,
        "CLICK": None,
        "RENDERING_FAILURE": None,
        "SUBSCRIPTION": None,
    }
)


class BouncedRecipient(Struct, frozen=True, gc=False):
    """A recipient that a bounce or delay is about; a report may say more of it."""

    address: str
    action: str | None = None
    status: str | None = None
    diagnostic_code: str | None = None

    def json(self) -> dict[str, Any]:
        """The object in notifications."""
        return _present(
            emailAddress=self.address,
            action=self.action,
            status=self.status,
            diagnosticCode=self.diagnostic_code,
        )


class SendDetails(Struct, frozen=True, gc=False):
    """The message was handed over."""

    kind: Literal["Send"] = "Send"

    def json(self) -> dict[str, Any]:
        """The object in events."""
        return {}


class RejectDetails(Struct, frozen=True, gc=False):
    """The message was accepted from the sender, and then not sent."""

    reason: str = "Bad content"
    kind: Literal["Reject"] = "Reject"

    def json(self) -> dict[str, Any]:
        """The object in events."""
        return {"reason": self.reason}


class BounceDetails(Struct, frozen=True, gc=False, kw_only=True):
    """Recipients did not get the message, and will not."""

    type: str
    subtype: str
    recipients: tuple[BouncedRecipient, ...]
    at: datetime
    feedback_id: str
    remote_mta_ip: str | None = None
    reporting_mta: str | None = None
    kind: Literal["Bounce"] = "Bounce"

    def json(self) -> dict[str, Any]:
        """The object in notifications and events."""
        return {
            "bounceType": self.type,
            "bounceSubType": self.subtype,
            "bouncedRecipients": [recipient.json() for recipient in self.recipients],
            "timestamp": timestamp(self.at),
            "feedbackId": self.feedback_id,
            **_present(remoteMtaIp=self.remote_mta_ip, reportingMTA=self.reporting_mta),
        }


class ComplaintDetails(Struct, frozen=True, gc=False, kw_only=True):
    """Recipients reported the message. ``arrived_at`` is when it came to them, if known."""

    recipients: tuple[str, ...]
    at: datetime
    feedback_id: str
    subtype: str | None = None
    user_agent: str | None = None
    feedback_type: str | None = None
    arrived_at: datetime | None = None
    kind: Literal["Complaint"] = "Complaint"

    def json(self) -> dict[str, Any]:
        """The object in notifications and events."""
        return {
            "complainedRecipients": [{"emailAddress": one} for one in self.recipients],
            "timestamp": timestamp(self.at),
            "feedbackId": self.feedback_id,
            "complaintSubType": self.subtype,
            **_present(
                userAgent=self.user_agent,
                complaintFeedbackType=self.feedback_type,
                arrivalDate=timestamp(self.arrived_at) if self.arrived_at else None,
            ),
        }


class DeliveryDetails(Struct, frozen=True, gc=False, kw_only=True):
    """Recipients' mail servers accepted the message."""

    recipients: tuple[str, ...]
    at: datetime
    processing_ms: int
    smtp_response: str
    reporting_mta: str
    remote_mta_ip: str | None = None
    outgoing_ip: str = ""
    kind: Literal["Delivery"] = "Delivery"

    def json(self) -> dict[str, Any]:
        """The object in notifications and events."""
        return {
            "timestamp": timestamp(self.at),
            "processingTimeMillis": self.processing_ms,
            "recipients": list(self.recipients),
            "smtpResponse": self.smtp_response,
            "reportingMTA": self.reporting_mta,
            **_present(remoteMtaIp=self.remote_mta_ip),
        }


class DelayDetails(Struct, frozen=True, gc=False, kw_only=True):
    """Recipients have not got the message yet; it is tried until ``expires_at``."""

    type: str
    recipients: tuple[BouncedRecipient, ...]
    at: datetime
    expires_at: datetime | None = None
    reporting_mta: str | None = None
    kind: Literal["DeliveryDelay"] = "DeliveryDelay"

    def json(self) -> dict[str, Any]:
        """The object in events."""
        return {
            "timestamp": timestamp(self.at),
            "delayType": self.type,
            **_present(expirationTime=timestamp(self.expires_at) if self.expires_at else None),
            "delayedRecipients": [recipient.json() for recipient in self.recipients],
            **_present(reportingMTA=self.reporting_mta),
        }


EventDetails: TypeAlias = (
    SendDetails
    | RejectDetails
    | BounceDetails
    | ComplaintDetails
    | DeliveryDetails
    | DelayDetails
)


def _present(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
