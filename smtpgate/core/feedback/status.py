"""Delivery status notifications: RFC 3464, and RFC 6533 with addresses beyond ASCII."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, get_args

from smtpgate.core.feedback.addresses import address_in, same_key, typed_address
from smtpgate.core.feedback.bounds import MAX_DIAGNOSTIC, MAX_RECIPIENTS, MAX_VALUE
from smtpgate.core.feedback.codes import more_precise, reply_in, status_in
from smtpgate.core.feedback.mime import as_text
from smtpgate.core.feedback.report import Action, ReportedRecipient

_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,60})[ \t]*:(.*)", re.DOTALL)
_OF_RECIPIENT: Final = frozenset(
    {"final-recipient", "original-recipient", "x-actual-recipient"}
)
_STARTS: Final = re.compile(
    r"(?:final-recipient|original-recipient|reporting-mta)[ \t]*:", re.IGNORECASE
)
# In texts for people the fields may be indented: such a line does not continue the one before.
_INDENTED: Final = re.compile(
    r"\s{1,40}(?:(?:final|original|x-actual)-recipient|action|status|diagnostic-code|remote-mta"
    r"|(?:reporting|received-from)-mta|(?:arrival|last-attempt|will-retry)-[a-z]{4,5})[ \t]*:",
    re.IGNORECASE,
)
_ACTIONS: Final[dict[str, Action]] = {action: action for action in get_args(Action)}
# Words of servers that do not keep to RFC 3464 §2.3.3.
_OTHER_ACTIONS: Final[dict[str, Action]] = {
    "failure": "failed",
    "fail": "failed",
    "hard": "failed",
    "expired": "failed",
    "denied": "failed",
    "deferred": "delayed",
    "delay": "delayed",
    "soft": "delayed",
    "deliverable": "delivered",
}
_Group = dict[str, str]
_MAX_DATE: Final = 100


class DeliveryStatus(NamedTuple):
    """A delivery-status part: fields of the message, and its recipients."""

    recipients: tuple[ReportedRecipient, ...]
    reporting_mta: str
    arrival_date: str
    envelope_id: str


def read_status(octets: bytes) -> DeliveryStatus:
    """Read the content of a ``message/delivery-status`` part."""
    return read_status_text(as_text(octets, ""))


def read_status_text(text: str) -> DeliveryStatus:
    """Read fields of a delivery status, also those that stand in a text for people."""
    groups = _groups(text.split("\n"))
    of_message: _Group = {}
    recipients: dict[str, ReportedRecipient] = {}
    for group in groups:
        if _OF_RECIPIENT & group.keys():
            recipient = _recipient(group)
            if recipient is not None and len(recipients) < MAX_RECIPIENTS:
                key = same_key(recipient.address)
                recipients[key] = _worse(recipients.get(key), recipient)
        for name, value in group.items():
            of_message.setdefault(name, value)
    return DeliveryStatus(
        tuple(recipients.values()),
        of_message.get("reporting-mta", "")[:MAX_DIAGNOSTIC],
        of_message.get("arrival-date", "")[:MAX_DIAGNOSTIC],
        of_message.get("original-envelope-id", "")[:MAX_DIAGNOSTIC],
    )


def has_status_fields(text: str) -> bool:
    """True if a text has the fields of a delivery status at the beginnings of lines."""
    return _STARTS.search(text) is not None and any(
        _STARTS.match(line.lstrip()) for line in text.split("\n")
    )


def _groups(lines: Iterable[str]) -> list[_Group]:
    """The groups of fields: an empty line, or another recipient, begins the next one."""
    groups: list[_Group] = [{}]
    name, size = "", 0
    for line in lines:
        if not line.strip():
            name = ""
            if groups[-1]:
                groups.append({})
        elif line[0] in " \t" and name and not _INDENTED.match(line):
            if size < MAX_VALUE:
                groups[-1][name] += " " + line.strip()
                size += len(line)
        else:
            match = _FIELD.fullmatch(line.strip())
            name = match[1].lower() if match else ""
            if match is None:
                continue
            if name == "final-recipient" and name in groups[-1]:
                groups.append({})
            size = len(match[2])
            groups[-1].setdefault(name, match[2].strip()[:MAX_VALUE])
        if len(groups) > 2 * MAX_RECIPIENTS:
            break
    return groups


def _recipient(group: _Group) -> ReportedRecipient | None:
    final = typed_address(group.get("final-recipient", ""))
    original = typed_address(group.get("original-recipient", ""))
    diagnostic = _diagnostic(group.get("diagnostic-code", ""))
    if "." not in final.rpartition("@")[2]:
        final = _with_domain(
            final, (original, typed_address(group.get("x-actual-recipient", "")))
        )
    if not final:
        return None
    if "@" not in final:
        final = address_in(diagnostic) or final
    status = status_in(group.get("status", ""))
    return ReportedRecipient(
        address=final,
        original=original if same_key(original) != same_key(final) else "",
        action=_action(group.get("action", ""), status or reply_in(diagnostic)),
        status=more_precise(status, status_in(diagnostic)),
        reply=reply_in(diagnostic),
        diagnostic=diagnostic[:MAX_DIAGNOSTIC],
        remote_mta=group.get("remote-mta", "").partition(";")[2].strip()[:MAX_DIAGNOSTIC],
        retry_until=_moment(group.get("will-retry-until", "")),
    )


def _moment(value: str) -> datetime | None:
    """The moment of a date of RFC 5322; ``None`` if it cannot be read."""
    if len(value) > _MAX_DATE:
        return None
    try:
        return parsedate_to_datetime(value).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _with_domain(address: str, others: Iterable[str]) -> str:
    """A recipient that only its own server knows by that name, as others know it."""
    return next((other for other in others if "." in other.rpartition("@")[2]), address)


def _diagnostic(value: str) -> str:
    """A diagnostic as it stands, without white space that folding left."""
    return " ".join(value.split())


def _action(value: str, code: str) -> Action:
    """The action, or where there is none that which a status or reply code means."""
    word = value.strip().partition(" ")[0].partition("(")[0].strip(".,;").lower()
    action = _ACTIONS.get(word) or _OTHER_ACTIONS.get(word)
    return action or ("delivered" if code.startswith("2") else "failed")


def _worse(before: ReportedRecipient | None, after: ReportedRecipient) -> ReportedRecipient:
    """Of two groups for one recipient, the one with the failure."""
    if before is None or (before.action != "failed" and after.action == "failed"):
        return after
    return before
