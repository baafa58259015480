"""Events of messages, for tests of notifications."""

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from smtpgate.core.feedback.kinds import GENERAL
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    EventRecipient,
    RejectDetail,
    RenderingFailureDetail,
    SendDetail,
    SendingEvent,
    SentMail,
)
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
MAIL: Final = SentMail(
    message_id="0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000",
    sent_at=SENT_AT,
    source="marketing@example.com",
    destination=("nobody@example.net", "ok@example.net"),
    account_id="999999999999",
    identity="arn:aws:ses:us-east-1:888888888888:identity/example.com",
    owner_id="888888888888",
    caller="mailer",
    source_ip="198.51.100.7",
    configuration_set="spring",
    operation="SendRawEmail",
    headers=HEADERS,
    tags=(("campaign", ("a", "b")), ("ses:operation", ("forged",))),
)
NOBODY: Final = EventRecipient(
    "nobody@example.net", "failed", "5.1.1", "smtp; 550 5.1.1 user unknown"
)


def _event(recipients: tuple[EventRecipient, ...], detail: Any) -> SendingEvent:  # noqa: ANN401 - any kind
    return SendingEvent(FEEDBACK_ID, AT, MAIL, recipients, detail)


BOUNCE: Final = _event(
    (NOBODY,),
    BounceDetail(
        bounce=GENERAL, remote_mta_ip="192.0.2.10", reporting_mta="dns; mx.example.net"
    ),
)
COMPLAINT: Final = _event(
    (EventRecipient("r@example.net"),),
    ComplaintDetail(user_agent="ExampleFBL/1.0", feedback_type="abuse", arrived_at=SENT_AT),
)
DELIVERY: Final = _event(
    (EventRecipient("ok@example.net"),),
    DeliveryDetail(
        processing_ms=1500,
        smtp_response="250 2.0.0 OK",
        reporting_mta="gate.example.com",
        remote_mta_ip="192.0.2.20",
    ),
)
SEND: Final = _event(tuple(map(EventRecipient, MAIL.destination)), SendDetail())
REJECT: Final = _event((), RejectDetail())
DELAY: Final = _event(
    (EventRecipient("full@example.net", "", "4.2.2", "smtp; 452 4.2.2 full"),),
    DelayDetail(
        delay_type="MailboxFull",
        expires_at=AT.replace(day=4),
        reporting_mta="dns; gate.example.com",
    ),
)
FAILURE: Final = _event(
    (EventRecipient("ok@example.net"),),
    RenderingFailureDetail(
        "Attribute 'name' is not present in the rendering data.", "MyTemplate"
    ),
)
# SES has a notification for these, and only events for the others.
NOTIFIED: Final = (BOUNCE, COMPLAINT, DELIVERY)
EVENTS: Final = (*NOTIFIED, SEND, REJECT, DELAY, FAILURE)


def must_fit(name: str, document: str) -> None:
    """Check a JSON text against a schema that is shipped, without members that it lacks.

    Receivers may get members that are added later, so the schema itself lets them pass.
    """
    _validator(name).validate(json.loads(document))


@cache
def _validator(name: str) -> Any:  # noqa: ANN401 - jsonschema has no types
    """The validator of a closed schema, made once: it takes long."""
    try:
        import jsonschema  # noqa: PLC0415
    except ImportError:
        missing("jsonschema is not installed: `pip install -e .[dev]'")
    schema: Any = json.loads((ROOT / f"smtpgate/schemas/{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    _close(schema)
    return jsonschema.Draft202012Validator(schema)


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
