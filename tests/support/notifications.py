"""Messages and what became of them, for tests of notifications."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from smtpgate.core.notification.details import (
    BounceDetails,
    BouncedRecipient,
    ComplaintDetails,
    DelayDetails,
    DeliveryDetails,
    EventDetails,
    RejectDetails,
    SendDetails,
)
from smtpgate.core.notification.mail import Mail
from tests.support.daemons import missing
from tests.support.gate import ROOT

AT: Final = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
SENT_AT: Final = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
FEEDBACK_ID: Final = "0100019b7c000000-11111111-2222-3333-4444-555555555555-000000"
HEADERS: Final = (
    ("From", "Marketing <marketing@example.com>"),
    ("To", '"Jane, R" <jane@example.net>, rich@example.net'),
    ("Subject", "Spring"),
    ("Message-ID", "<own@example.com>"),
    ("X-Listmonk-Campaign", "c-1"),
    ("X-Listmonk-Subscriber", "s-1"),
)
MAIL: Final = Mail(
    message_id="0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000",
    timestamp=SENT_AT,
    source="marketing@example.com",
    source_arn="arn:aws:ses:us-east-1:888888888888:identity/example.com",
    sending_account_id="999999999999",
    destination=("nobody@example.net", "ok@example.net"),
    source_ip="198.51.100.7",
    caller_identity="mailer",
    operation="SendRawEmail",
    from_domain="example.com",
    configuration_set="spring",
    tags=(("campaign", "a"), ("campaign", "b"), ("ses:operation", "forged")),
    headers=HEADERS,
)
NOBODY: Final = BouncedRecipient(
    "nobody@example.net", "failed", "5.1.1", "smtp; 550 5.1.1 user unknown"
)
BOUNCE: Final = BounceDetails(
    type="Permanent",
    subtype="General",
    recipients=(NOBODY,),
    at=AT,
    feedback_id=FEEDBACK_ID,
    remote_mta_ip="192.0.2.10",
    reporting_mta="dns; mx.example.net",
)
COMPLAINT: Final = ComplaintDetails(
    recipients=("r@example.net",),
    at=AT,
    feedback_id=FEEDBACK_ID,
    user_agent="ExampleFBL/1.0",
    feedback_type="abuse",
    arrived_at=SENT_AT,
)
DELIVERY: Final = DeliveryDetails(
    recipients=("ok@example.net",),
    at=AT,
    processing_ms=1500,
    smtp_response="250 2.0.0 OK",
    reporting_mta="gate.example.com",
    remote_mta_ip="192.0.2.20",
    outgoing_ip="192.0.2.1",
)
DELAY: Final = DelayDetails(
    type="MailboxFull",
    recipients=(BouncedRecipient("full@example.net", None, "4.2.2", "smtp; 452 4.2.2 full"),),
    at=AT,
    expires_at=AT.replace(day=4),
    reporting_mta="dns; gate.example.com",
)
# What SES has a notification for, and what it only has events for.
NOTIFIED: Final[tuple[EventDetails, ...]] = (BOUNCE, COMPLAINT, DELIVERY)
ALL_DETAILS: Final[tuple[EventDetails, ...]] = (
    *NOTIFIED,
    SendDetails(),
    RejectDetails(),
    DELAY,
)


def must_fit(name: str, document: str) -> None:
    """Check a JSON text against a schema that is shipped, without members that it lacks.

    Receivers may get members that are added later, so the schema itself lets them pass.
    """
    try:
        import jsonschema  # noqa: PLC0415
    except ImportError:
        missing("jsonschema is not installed: `pip install -e .[dev]'")
    schema: Any = json.loads((ROOT / f"smtpgate/schemas/{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    _close(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(document))


def _close(schema: Any) -> None:  # noqa: ANN401 - JSON
    """Have no object of a schema take members that are not listed."""
    if isinstance(schema, dict):
        if "required" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)
