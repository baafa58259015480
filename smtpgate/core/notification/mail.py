"""The ``mail`` object of notifications and events: the message that an event is about."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from smtpgate.core.outbox.event import SentMail

_ADDRESS_LISTS: Final = (
    ("from", "from"),
    ("to", "to"),
    ("cc", "cc"),
    ("bcc", "bcc"),
    ("sender", "sender"),
    ("reply-to", "replyTo"),
)
_TEXTS: Final = (
    ("return-path", "returnPath"),
    ("date", "date"),
    ("message-id", "messageId"),
    ("subject", "subject"),
)
# A mailbox of a list: text in quotes or parentheses may have commas in it (RFC 5322 §3.4).
_MAILBOX: Final = re.compile(r'(?:[^",(]++|"(?:[^"\\]|\\.)*+(?:"|\Z)|\([^)]*+(?:\)|\Z))++')
_DOMAIN: Final = re.compile(r"@([^@<>\s]+)>?\Z")


def timestamp(at: datetime) -> str:
    """A moment as notifications have it: ISO 8601 in UTC, with milliseconds."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def notification_mail(mail: SentMail, *, with_headers: bool) -> dict[str, Any]:
    """The ``mail`` object of an identity's notification."""
    return {
        "timestamp": timestamp(mail.sent_at),
        "source": mail.source,
        "sourceArn": mail.identity,
        "sourceIp": mail.source_ip,
        "callerIdentity": mail.caller,
        "sendingAccountId": mail.account_id,
        "messageId": mail.message_id,
        "destination": list(mail.destination),
        **(_headers(mail) if with_headers else {}),
    }


def event_mail(mail: SentMail) -> dict[str, Any]:
    """The ``mail`` object of a published event, which always has headers and tags."""
    return {
        "timestamp": timestamp(mail.sent_at),
        "source": mail.source,
        "sourceArn": mail.identity,
        "sendingAccountId": mail.account_id,
        "messageId": mail.message_id,
        "destination": list(mail.destination),
        **_headers(mail),
        "tags": _tags(mail),
    }


def mailboxes(value: str) -> list[str]:
    """The mailboxes of an unfolded list, as written; for showing, not for deciding."""
    pieces = (piece[0].strip() for piece in _MAILBOX.finditer(value))
    return [piece for piece in pieces if piece]


def first_values(mail: SentMail) -> dict[str, str]:
    """The first value of each field, by its name in lower case."""
    found: dict[str, str] = {}
    for name, value in mail.headers or ():
        found.setdefault(name.lower(), value)
    return found


def _headers(mail: SentMail) -> Mapping[str, Any]:
    return {
        "headersTruncated": mail.are_headers_cut or mail.headers is None,
        "headers": [{"name": name, "value": value} for name, value in mail.headers or ()],
        "commonHeaders": _common_headers(mail),
    }


def _common_headers(mail: SentMail) -> dict[str, Any]:
    """The fields that receivers ask for most, by SES's names; only those that there are.

    The message's id stands in for a Message-ID that the sender did not write.
    """
    first = first_values(mail)
    found: dict[str, Any] = {
        shown: mailboxes(first[name]) for name, shown in _ADDRESS_LISTS if name in first
    }
    first.setdefault("message-id", mail.message_id)
    return found | {shown: first[name] for name, shown in _TEXTS if name in first}


def _tags(mail: SentMail) -> dict[str, list[str]]:
    """The tags of an event: those that SES adds, then the sender's own.

    A tag of the sender cannot replace one that SES adds.
    """
    from_domain = _DOMAIN.search(first_values(mail).get("from", mail.identity))
    automatic = {
        "ses:operation": mail.operation,
        "ses:configuration-set": mail.configuration_set,
        "ses:source-ip": mail.source_ip,
        "ses:from-domain": from_domain[1].lower() if from_domain else "",
        "ses:caller-identity": mail.caller,
    }
    own = {name: list(values) for name, values in mail.tags if not name.startswith("ses:")}
    return {name: [value] for name, value in automatic.items() if value} | own
