"""Records of mail servers as JSON: a neutral form of our own, and KumoMTA's log records.

The neutral form is the one that ``smtpgate feedback read`` prints, so that its output may be
input again. An adapter for a mail server may leave out what the server does not say::

    {"kind": "bounce", "id": "mx1-48213", "at": "2027-01-31T12:00:00Z",
     "message_id": "0100…-000000", "recipients": [{"address": "jane@example.net",
     "status": "5.1.1", "reply": "550", "diagnostic": "user unknown"}]}

KumoMTA's are described in https://docs.kumomta.com/reference/log_record/. A record is read
strictly, because a program wrote it that can be corrected.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, cast, get_args

from msgspec import Struct

from smtpgate.core.feedback.addresses import address_in
from smtpgate.core.feedback.bounds import MAX_DIAGNOSTIC, MAX_RECIPIENTS
from smtpgate.core.feedback.classify import classify
from smtpgate.core.feedback.codes import reply_in, status_in
from smtpgate.core.feedback.kinds import (
    BOUNCE_KINDS,
    GENERAL,
    MAILBOX_FULL,
    NO_EMAIL,
    TRANSIENT,
    UNDETERMINED,
    BounceKind,
)
from smtpgate.core.feedback.mime import without_surrogates
from smtpgate.core.feedback.original import id_in
from smtpgate.core.feedback.report import (
    NO_REPORT,
    Action,
    FeedbackReport,
    OriginalMessage,
    ReportedRecipient,
    ReportKind,
)
from smtpgate.core.feedback.sns import read_notification

# The longest records are complaints that return the message.
MAX_RECORD_OCTETS: Final = 1024 * 1024
_Object: TypeAlias = Mapping[str, Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_SECONDS: Final = 200_000_000_000

_KINDS: Final[dict[str, ReportKind]] = {kind: kind for kind in get_args(ReportKind)}
_ACTIONS: Final[dict[str, Action]] = {action: action for action in get_args(Action)}
_ACTION_OF_KIND: Final[dict[ReportKind, Action]] = {
    "bounce": "failed",
    "delay": "delayed",
    "delivery": "delivered",
}
_BY_NAME: Final = {f"{kind.type} {kind.subtype}": kind for kind in BOUNCE_KINDS}
_FIELDS: Final = frozenset(
    {
        "arrival_date",
        "at",
        "detail",
        "envelope_id",
        "feedback_type",
        "file",
        "id",
        "kind",
        "message_id",
        "original_message_id",
        "recipients",
        "reporting_mta",
        "user_agent",
    }
)
_RECIPIENT_FIELDS: Final = frozenset(
    {
        "action",
        "address",
        "diagnostic",
        "original",
        "remote_mta",
        "reply",
        "status",
        "subtype",
        "type",
    }
)
# KumoMTA's records that say what became of a recipient; the others say what became of a message
# in its own queue.
_KUMO_KINDS: Final[dict[str, ReportKind]] = {
    "Delivery": "delivery",
    "Bounce": "bounce",
    "Expiration": "bounce",
    "AdminBounce": "bounce",
    "OOB": "bounce",
    "TransientFailure": "delay",
    "Feedback": "complaint",
    "Reception": "none",
    "Rejection": "none",
    "AdminRebind": "none",
    "Delay": "none",
}
# KumoMTA's classes of bounces, where the words of the reply say nothing to us.
_KUMO_CLASSES: Final = {
    "InvalidRecipient": NO_EMAIL,
    "BadDomain": GENERAL,
    "QuotaIssues": MAILBOX_FULL,
    "InactiveMailbox": TRANSIENT,
}


class RecordError(ValueError):
    """A record that is not understood: the field, and what is wrong with it."""


class FeedbackRecord(Struct, frozen=True, gc=False):
    """A record, read: the same as a report, with the time and the id that its server gave it.

    Two records with one ``id`` are the same record, sent twice; without an id it is empty.
    """

    report: FeedbackReport
    id: str = ""
    at: datetime | None = None


def read_record(line: bytes) -> FeedbackRecord:
    """Read one record. Raises RecordError."""
    if len(line) > MAX_RECORD_OCTETS:
        raise RecordError(f"is longer than {MAX_RECORD_OCTETS} octets")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise RecordError("is not JSON") from None
    if not isinstance(value, dict):
        raise RecordError("is no JSON object")
    if "kind" in value:
        return _neutral(value)
    notification = read_notification(value)
    if notification is not None:
        return FeedbackRecord(notification)
    if "type" in value:
        return _of_kumo(value)
    raise RecordError("has neither `kind' nor the `type' of a KumoMTA log record")


def _neutral(value: _Object) -> FeedbackRecord:
    _only(value, _FIELDS, "")
    kind = _KINDS.get(_text(value, "kind"))
    if kind is None:
        raise RecordError(f"`kind' is none of {', '.join(_KINDS)}")
    if _text(value, "detail") in _KINDS:  # as `feedback read' prints delays and answers
        kind = _KINDS[_text(value, "detail")]
    recipients = value.get("recipients", [])
    if not isinstance(recipients, list) or len(recipients) > MAX_RECIPIENTS:
        raise RecordError(f"`recipients' is no list of at most {MAX_RECIPIENTS}")
    if not recipients and kind in _ACTION_OF_KIND:
        raise RecordError("`recipients' is empty")
    report = FeedbackReport(
        kind=kind,
        recipients=tuple([_recipient(one, kind) for one in recipients]),
        original=OriginalMessage(
            message_id=_our_id(value),
            envelope_id=_text(value, "envelope_id"),
            header_message_id=_text(value, "original_message_id"),
        ),
        reporting_mta=_text(value, "reporting_mta"),
        arrival_date=_text(value, "arrival_date"),
        feedback_type=_text(value, "feedback_type"),
        user_agent=_text(value, "user_agent"),
    )
    return FeedbackRecord(report, _text(value, "id"), _moment(value.get("at")))


def _our_id(value: _Object) -> str | None:
    """Our id of the message, named as such or found in the other ids."""
    named = _text(value, "message_id")
    if named and id_in(named) != named:
        raise RecordError("`message_id' is no message id of a gate")
    return named or id_in(_text(value, "envelope_id"), _text(value, "original_message_id"))


def _recipient(value: object, kind: ReportKind) -> ReportedRecipient:
    if not isinstance(value, dict):
        raise RecordError("`recipients' has an entry that is no object")
    fields = cast("_Object", value)
    _only(fields, _RECIPIENT_FIELDS, "recipients.")
    address = address_in(_text(fields, "address"))
    if not address:
        raise RecordError("`recipients.address' is no address")
    named = _text(fields, "action")
    if named and named not in _ACTIONS:
        raise RecordError(f"`recipients.action' is none of {', '.join(_ACTIONS)}")
    action = _ACTIONS[named] if named else _ACTION_OF_KIND.get(kind)
    diagnostic = _text(fields, "diagnostic")
    status = status_in(_text(fields, "status")) or status_in(diagnostic)
    reply = _text(fields, "reply") or reply_in(diagnostic)
    return ReportedRecipient(
        address=address,
        original=address_in(_text(fields, "original")),
        action=action,
        status=status,
        reply=reply,
        diagnostic=diagnostic,
        remote_mta=_text(fields, "remote_mta"),
        kind=_kind(fields, action, lambda: classify(status, reply, diagnostic)),
    )


def _kind(
    fields: _Object, action: Action | None, classified: Callable[[], BounceKind]
) -> BounceKind | None:
    """The type and subtype that a record names, or else those of its words and codes."""
    if action not in {"failed", "delayed"}:
        return None
    named = f"{_text(fields, 'type')} {_text(fields, 'subtype')}"
    if named == " ":
        return classified()
    if named not in _BY_NAME:
        raise RecordError(
            f"`recipients.type' and `subtype' are no pair of Amazon SES: {_shown(named)}"
        )
    return _BY_NAME[named]


def _of_kumo(value: _Object) -> FeedbackRecord:
    name = _text(value, "type")
    kind = _KUMO_KINDS.get(name)
    if kind is None:
        raise RecordError("`type' is no type of a KumoMTA log record")
    if kind == "none":
        return FeedbackRecord(NO_REPORT)
    addresses = _kumo_addresses(value)
    number = value.get("timestamp")
    identity = f"kumomta {_text(value, 'id')} {name} {number} {' '.join(addresses)}"
    report = _kumo_complaint(value) if kind == "complaint" else None
    if report is None:
        recipients = [_kumo_recipient(value, kind, address) for address in addresses]
        report = FeedbackReport(kind, tuple(recipients), _kumo_original(value))
    return FeedbackRecord(report, identity[:MAX_DIAGNOSTIC], _moment(number))


def _kumo_addresses(value: _Object) -> list[str]:
    named = value.get("recipient")
    texts = named if isinstance(named, list) else [named]
    found = [
        address_in(without_surrogates(one))
        for one in texts[:MAX_RECIPIENTS]
        if isinstance(one, str)
    ]
    if not found or not all(found):
        raise RecordError("`recipient' is no address")
    return found


def _kumo_recipient(value: _Object, kind: ReportKind, address: str) -> ReportedRecipient:
    response = _object(value, "response")
    code, content = response.get("code"), _text(response, "content")
    enhanced = _object(response, "enhanced_code")
    digits = (str(enhanced.get(one)) for one in ("class", "subject", "detail"))
    status = status_in(".".join(digits))
    reply = str(code) if isinstance(code, int) and 200 <= code <= 599 else ""
    action = _ACTION_OF_KIND[kind]
    bounce = None
    if action != "delivered":
        bounce = classify(status, reply, content)
        if bounce == UNDETERMINED:
            bounce = _KUMO_CLASSES.get(_text(value, "bounce_classification"), bounce)
        if _text(value, "type") == "Expiration":
            bounce = TRANSIENT
    return ReportedRecipient(
        address=address,
        action=action,
        status=status,
        reply=reply,
        diagnostic=" ".join(filter(None, ("smtp;", reply, status, content)))[:MAX_DIAGNOSTIC],
        remote_mta=_text(_object(value, "peer_address"), "name").rstrip("."),
        kind=bounce,
    )


def _kumo_original(value: _Object) -> OriginalMessage:
    headers = {
        name.lower(): without_surrogates(text)
        for name, text in _object(value, "headers").items()
        if isinstance(text, str)
    }
    header_id = headers.get("message-id", "")[:MAX_DIAGNOSTIC]
    return OriginalMessage(
        message_id=id_in(_text(value, "sender"), header_id), header_message_id=header_id
    )


def _kumo_complaint(value: _Object) -> FeedbackReport:
    report = _object(value, "feedback_report")
    named = report.get("original_rcpto_to")
    texts = named[:MAX_RECIPIENTS] if isinstance(named, list) else []
    addresses = [address_in(without_surrogates(one)) for one in texts if isinstance(one, str)]
    original = _text(report, "original_message", 64 * 1024)
    return FeedbackReport(
        "complaint",
        tuple([ReportedRecipient(one) for one in addresses if one]),
        OriginalMessage(
            message_id=id_in(_text(report, "original_mail_from"), original),
            envelope_id=_text(report, "original_envelope_id"),
        ),
        reporting_mta=_text(_object(report, "reporting_mta"), "name"),
        arrival_date=_text(report, "arrival_date"),
        feedback_type=_text(report, "feedback_type").lower(),
        user_agent=_text(report, "user_agent"),
    )


def _only(value: _Object, known: frozenset[str], where: str) -> None:
    unknown = sorted(value.keys() - known)
    if unknown:
        raise RecordError(f"`{where}{_shown(unknown[0])}' is an unknown field")


def _shown(text: str) -> str:
    return text[:40].encode("unicode_escape").decode("ascii")


def _object(value: _Object, name: str) -> _Object:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: _Object, name: str, longest: int = MAX_DIAGNOSTIC) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise RecordError(f"`{name}' is no text")
    return without_surrogates(found[:longest])


def _moment(value: object) -> datetime | None:
    """A time: RFC 3339, or seconds since 1970."""
    if value is None:
        return None
    if isinstance(value, int) and 0 <= value <= _MAX_SECONDS:
        return _EPOCH + timedelta(seconds=value)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            pass
    raise RecordError("`at' is no time such as 2027-01-31T12:00:00Z")
