"""Records of mail servers as JSON: a neutral form of our own, KumoMTA's, and Amazon SES's.

The neutral form is the one that ``smtpgate feedback read`` prints, so that its output may be
input again. An adapter for a mail server may leave out what the server does not say::

    {"kind": "bounce", "id": "mx1-48213", "at": "2027-01-31T12:00:00Z",
     "message_id": "0100…-000000", "recipients": [{"address": "jane@example.net",
     "status": "5.1.1", "reply": "550", "diagnostic": "user unknown"}]}
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, cast, get_args

from smtpgate.core.feedback.addresses import address_in
from smtpgate.core.feedback.bounds import MAX_RECIPIENTS
from smtpgate.core.feedback.classify import classify
from smtpgate.core.feedback.codes import reply_in, status_in
from smtpgate.core.feedback.kinds import BOUNCE_KINDS, BounceKind
from smtpgate.core.feedback.kumomta import read_kumomta
from smtpgate.core.feedback.original import id_in, path_in
from smtpgate.core.feedback.record import (
    ACTION_OF_KIND,
    FeedbackRecord,
    JsonObject,
    RecordError,
    moment_of,
    shown,
    text_of,
)
from smtpgate.core.feedback.report import (
    Action,
    FeedbackReport,
    OriginalMessage,
    ReportedRecipient,
    ReportKind,
)
from smtpgate.core.feedback.sns import read_notification

# The longest records are complaints that return the message.
MAX_RECORD_OCTETS: Final = 1024 * 1024

_KINDS: Final[dict[str, ReportKind]] = {kind: kind for kind in get_args(ReportKind)}
_ACTIONS: Final[dict[str, Action]] = {action: action for action in get_args(Action)}
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
        "sender",
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
        "retry_until",
        "status",
        "subtype",
        "type",
    }
)


class ReadLine(NamedTuple):
    """A record of several: its number among them from 1, and the record or its problem."""

    number: int
    record: FeedbackRecord | None
    problem: str = ""


def read_records(octets: bytes, most: int) -> Sequence[ReadLine]:
    """Read a text of records: one a line, one on all lines, or a list of them.

    The number of a line counts also empty lines, which are no records. Raises RecordError if
    there are more than ``most`` records, or if the text is a list that cannot be read.
    """
    if octets[:64].lstrip()[:1] == b"[":
        values = _parsed(octets)
        parts = list(enumerate(values, 1))
        read: Callable[[Any], FeedbackRecord] = _record
    else:
        parts, read = list(_lines(octets)), read_record
    if len(parts) > most:
        raise RecordError(f"has more than {most} records")
    return [_read(number, partial(read, value)) for number, value in parts]


def _lines(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers; or all as one, if that is JSON."""
    lines = [
        (number, line) for number, line in enumerate(octets.split(b"\n"), 1) if line.strip()
    ]
    if len(lines) > 1 and not lines[0][1].rstrip().endswith(b"}") and _is_json(octets):
        yield lines[0][0], octets
    else:
        yield from lines


def _is_json(octets: bytes) -> bool:
    try:
        _parsed(octets)
    except RecordError:
        return False
    return True


def _read(number: int, read: Callable[[], FeedbackRecord]) -> ReadLine:
    try:
        return ReadLine(number, read())
    except RecordError as error:
        return ReadLine(number, None, str(error))


def read_record(line: bytes) -> FeedbackRecord:
    """Read one record. Raises RecordError."""
    if len(line) > MAX_RECORD_OCTETS:
        raise RecordError(f"is longer than {MAX_RECORD_OCTETS} octets")
    return _record(_parsed(line))


def _parsed(octets: bytes) -> Any:  # noqa: ANN401 - JSON
    """The JSON value, read strictly: no key twice, no number that JSON does not have."""
    try:
        return json.loads(octets, object_pairs_hook=_object, parse_constant=_no_json)
    except RecordError:
        raise
    except (ValueError, RecursionError):
        raise RecordError("is not JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(f"has `{shown(twice)}' twice")
    return found


def _no_json(name: str) -> NoReturn:
    raise RecordError(f"is not JSON: {name}")


def _record(value: object) -> FeedbackRecord:
    if not isinstance(value, dict):
        raise RecordError("is no JSON object")
    fields = cast("dict[str, Any]", value)
    if "kind" in fields:
        return _neutral(fields)
    notification = read_notification(fields)
    if notification is not None:
        return FeedbackRecord(notification)
    if "type" in fields:
        return read_kumomta(fields)
    raise RecordError("has neither `kind' nor the `type' of a KumoMTA log record")


def _neutral(value: JsonObject) -> FeedbackRecord:
    _only(value, _FIELDS, "")
    kind = _KINDS.get(text_of(value, "kind"))
    if kind is None:
        raise RecordError(f"`kind' is none of {', '.join(_KINDS)}")
    if text_of(value, "detail") in _KINDS:  # as `feedback read' prints delays and answers
        kind = _KINDS[text_of(value, "detail")]
    recipients = value.get("recipients", [])
    if not isinstance(recipients, list) or len(recipients) > MAX_RECIPIENTS:
        raise RecordError(f"`recipients' is no list of at most {MAX_RECIPIENTS}")
    if not recipients and kind in ACTION_OF_KIND:
        raise RecordError("`recipients' is empty")
    path = path_in(text_of(value, "sender"))
    report = FeedbackReport(
        kind=kind,
        recipients=tuple([_recipient(one, kind) for one in recipients]),
        original=OriginalMessage(
            message_id=_our_id(value) or (path.message_id if path else None),
            tag=path.tag if path else "",
            envelope_id=text_of(value, "envelope_id"),
            header_message_id=text_of(value, "original_message_id"),
        ),
        reporting_mta=text_of(value, "reporting_mta"),
        arrival_date=text_of(value, "arrival_date"),
        feedback_type=text_of(value, "feedback_type"),
        user_agent=text_of(value, "user_agent"),
    )
    sender = address_in(text_of(value, "sender"))
    return FeedbackRecord(report, text_of(value, "id"), moment_of(value, "at"), sender)


def _our_id(value: JsonObject) -> str | None:
    """Our id of the message, named as such or found in the other ids."""
    named = text_of(value, "message_id")
    if named and id_in(named) != named:
        raise RecordError("`message_id' is no message id of a gate")
    return named or id_in(text_of(value, "envelope_id"), text_of(value, "original_message_id"))


def _recipient(value: object, kind: ReportKind) -> ReportedRecipient:
    if not isinstance(value, dict):
        raise RecordError("`recipients' has an entry that is no object")
    fields = cast("JsonObject", value)
    _only(fields, _RECIPIENT_FIELDS, "recipients.")
    address = address_in(text_of(fields, "address"))
    if not address:
        raise RecordError("`recipients.address' is no address")
    named = text_of(fields, "action")
    if named and named not in _ACTIONS:
        raise RecordError(f"`recipients.action' is none of {', '.join(_ACTIONS)}")
    action = _ACTIONS[named] if named else ACTION_OF_KIND.get(kind)
    diagnostic = text_of(fields, "diagnostic")
    status = status_in(text_of(fields, "status")) or status_in(diagnostic)
    reply = text_of(fields, "reply") or reply_in(diagnostic)
    return ReportedRecipient(
        address=address,
        original=address_in(text_of(fields, "original")),
        action=action,
        status=status,
        reply=reply,
        diagnostic=diagnostic,
        remote_mta=text_of(fields, "remote_mta"),
        kind=_kind(fields, action, lambda: classify(status, reply, diagnostic)),
        retry_until=moment_of(fields, "retry_until"),
    )


def _kind(
    fields: JsonObject, action: Action | None, classified: Callable[[], BounceKind]
) -> BounceKind | None:
    """The type and subtype that a record names, or else those of its words and codes."""
    if action not in {"failed", "delayed"}:
        return None
    named = f"{text_of(fields, 'type')} {text_of(fields, 'subtype')}"
    if named == " ":
        return classified()
    if named not in _BY_NAME:
        raise RecordError(
            f"`recipients.type' and `subtype' are no pair of Amazon SES: {shown(named)}"
        )
    return _BY_NAME[named]


def _only(value: JsonObject, known: frozenset[str], where: str) -> None:
    unknown = sorted(value.keys() - known)
    if unknown:
        raise RecordError(f"`{where}{shown(unknown[0])}' is an unknown field")
