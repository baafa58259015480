"""Log records of KumoMTA, as its log hooks send them.

https://docs.kumomta.com/reference/log_record/

Most say what became of one recipient at the next server. An ``OOB`` record is made of a bounce
that arrived at KumoMTA: its sender is the address that the bounce came to, and its header
fields are the bounce's own. A ``Feedback`` record is made of a complaint that arrived. Both
repeat a stranger.
"""

from collections.abc import Iterator
from typing import Final

from smtpgate.core.feedback.addresses import address_in
from smtpgate.core.feedback.bounds import MAX_DIAGNOSTIC, MAX_RECIPIENTS
from smtpgate.core.feedback.classify import classify
from smtpgate.core.feedback.codes import status_in
from smtpgate.core.feedback.kinds import (
    GENERAL,
    MAILBOX_FULL,
    NO_EMAIL,
    TRANSIENT,
    UNDETERMINED,
    BounceKind,
)
from smtpgate.core.feedback.mime import without_surrogates
from smtpgate.core.feedback.original import id_in, path_in
from smtpgate.core.feedback.record import (
    ACTION_OF_KIND,
    FeedbackRecord,
    JsonObject,
    RecordError,
    moment_of,
    object_of,
    text_of,
)
from smtpgate.core.feedback.report import (
    NO_REPORT,
    FeedbackReport,
    OriginalMessage,
    ReportedRecipient,
    ReportKind,
)

# The types that say what became of a recipient; the others say what became of a message in
# KumoMTA's own queue.
_KINDS: Final[dict[str, ReportKind]] = {
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
    "DeferredInjectionRebind": "none",
    "XferIn": "none",
    "XferOut": "none",
}
_HEARSAY: Final = frozenset({"OOB", "Feedback"})
# KumoMTA's classes of bounces, where the words of the reply say nothing to us.
_CLASSES: Final = {
    "InvalidRecipient": NO_EMAIL,
    "BadDomain": GENERAL,
    "QuotaIssues": MAILBOX_FULL,
    "InactiveMailbox": TRANSIENT,
}
# The header fields that may have our id, the one that the gate itself wrote first.
_FIELDS: Final = ("received", "message-id")
_MAX_VALUES: Final = 50
_MAX_ORIGINAL: Final = 64 * 1024


def read_kumomta(value: JsonObject) -> FeedbackRecord:
    """Read a log record. Raises RecordError."""
    name = text_of(value, "type")
    kind = _KINDS.get(name)
    if kind is None:
        raise RecordError("`type' is no type of a KumoMTA log record")
    if kind == "none":
        return FeedbackRecord(NO_REPORT)
    addresses = _addresses(value)
    number = value.get("timestamp")
    identity = f"kumomta {text_of(value, 'id')} {name} {number} {' '.join(addresses)}"
    if kind == "complaint":
        report = _complaint(object_of(value, "feedback_report"))
    else:
        recipients = [_recipient(value, kind, name, address) for address in addresses]
        original = _original_of_sender(value) if name in _HEARSAY else _original(value)
        report = FeedbackReport(
            kind,
            tuple(recipients),
            original,
            remote_ip=_ip(value) if name not in _HEARSAY else "",
        )
    return FeedbackRecord(
        report,
        identity[:MAX_DIAGNOSTIC],
        moment_of(value, "timestamp"),
        sender="" if name in _HEARSAY else address_in(text_of(value, "sender")),
        is_hearsay=name in _HEARSAY,
    )


def _addresses(value: JsonObject) -> list[str]:
    """The recipients; a message that came in one transaction may have several."""
    found = [address_in(one) for one in _texts(value.get("recipient"), MAX_RECIPIENTS)]
    if not found or not all(found):
        raise RecordError("`recipient' is no address")
    return found


def _recipient(
    value: JsonObject, kind: ReportKind, name: str, address: str
) -> ReportedRecipient:
    response = object_of(value, "response")
    code, content = response.get("code"), text_of(response, "content")
    enhanced = object_of(response, "enhanced_code")
    digits = (str(enhanced.get(one)) for one in ("class", "subject", "detail"))
    status = status_in(".".join(digits))
    reply = str(code) if type(code) is int and 200 <= code <= 599 else ""
    words = " ".join(filter(None, (reply, status, content)))
    return ReportedRecipient(
        address=address,
        action=ACTION_OF_KIND[kind],
        status=status,
        reply=reply,
        diagnostic=f"smtp; {words}"[:MAX_DIAGNOSTIC] if words else "",
        remote_mta=text_of(object_of(value, "peer_address"), "name").rstrip("."),
        kind=None if kind == "delivery" else _kind(value, name, status, reply, content),
    )


def _kind(value: JsonObject, name: str, status: str, reply: str, content: str) -> BounceKind:
    if name == "Expiration":
        return TRANSIENT
    bounce = classify(status, reply, content)
    if bounce == UNDETERMINED:
        return _CLASSES.get(text_of(value, "bounce_classification"), bounce)
    return bounce


def _ip(value: JsonObject) -> str:
    """The address of the next server, without a port."""
    return text_of(object_of(value, "peer_address"), "addr")[:45]


def _original_of_sender(value: JsonObject) -> OriginalMessage:
    """The message of a bounce: nothing but the address that the bounce came to names it."""
    return _by_path(text_of(value, "sender"))


def _by_path(*texts: str) -> OriginalMessage:
    for text in texts:
        path = path_in(text)
        if path is not None:
            return OriginalMessage(message_id=path.message_id, tag=path.tag)
    return OriginalMessage()


def _original(value: JsonObject) -> OriginalMessage:
    """The message, by its return path, its meta values, or its fields in this order."""
    headers = {name.lower(): one for name, one in object_of(value, "headers").items()}
    header_id = next(_texts(headers.get("message-id"), 1), "")[:MAX_DIAGNOSTIC]
    by_path = _by_path(text_of(value, "sender"))
    if by_path.message_id is not None:
        return OriginalMessage(by_path.message_id, by_path.tag, header_message_id=header_id)
    meta = object_of(value, "meta").values()
    values = [one for many in meta for one in _texts(many, _MAX_VALUES)]
    values += [one for name in _FIELDS for one in _texts(headers.get(name), _MAX_VALUES)]
    return OriginalMessage(id_in(*values), header_message_id=header_id)


def _complaint(report: JsonObject) -> FeedbackReport:
    recipients = [
        ReportedRecipient(address)
        for one in _texts(report.get("original_rcpto_to"), MAX_RECIPIENTS)
        if (address := address_in(one))
    ]
    message = text_of(report, "original_message", _MAX_ORIGINAL).replace("\r\n", "\n")
    header = message.partition("\n\n")[0]  # what stands below it is the sender's
    original = _by_path(text_of(report, "original_mail_from"), *_return_paths(header))
    return FeedbackReport(
        "complaint",
        tuple(recipients),
        OriginalMessage(
            message_id=original.message_id or id_in(header),
            tag=original.tag,
            envelope_id=text_of(report, "original_envelope_id"),
        ),
        reporting_mta=text_of(object_of(report, "reporting_mta"), "name"),
        arrival_date=text_of(report, "arrival_date"),
        feedback_type=text_of(report, "feedback_type").lower(),
        user_agent=text_of(report, "user_agent"),
    )


def _return_paths(header: str) -> Iterator[str]:
    """The values of the Return-Path fields of a header block."""
    for line in header.split("\n"):
        name, _, rest = line.partition(":")
        if name.lower() == "return-path":
            yield rest[:MAX_DIAGNOSTIC]


def _texts(value: object, most: int) -> Iterator[str]:
    """The texts of a value that is one text or a list of texts."""
    for one in value[:most] if isinstance(value, list) else [value]:
        if isinstance(one, str):
            yield without_surrogates(one[:MAX_DIAGNOSTIC])
