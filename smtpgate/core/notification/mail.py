"""The message that an event is about: the ``mail`` object of notifications.

It outlives the message, since a bounce may come days later; so it has all that is shown then.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from smtpgate.core.message.headers import HeaderBlock

# SES shows headers of less than 10 KB.
MAX_HEADER_OCTETS: Final = 10 * 1024
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


class Mail(Struct, frozen=True, gc=False, kw_only=True):
    """The facts of a message that was submitted.

    ``source`` is the reverse-path. ``source_arn`` is the identity that was used, of its owner;
    ``sending_account_id`` is the delegate's. ``headers`` are names and values, in order, empty
    when no receiver wants them. ``tags`` are the sender's own, of event publishing.
    """

    message_id: str
    timestamp: datetime
    source: str
    source_arn: str
    sending_account_id: str
    destination: tuple[str, ...]
    source_ip: str = ""
    caller_identity: str = ""
    operation: str = ""
    from_domain: str = ""
    configuration_set: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    headers_truncated: bool = False


def timestamp(at: datetime) -> str:
    """A moment as notifications have it: ISO 8601 in UTC, with milliseconds."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def shown_headers(
    block: HeaderBlock, max_octets: int = MAX_HEADER_OCTETS
) -> tuple[tuple[tuple[str, str], ...], bool]:
    """The fields of a header block as names and values, and true if some were left out."""
    shown: list[tuple[str, str]] = []
    octets = 0
    for field in block.fields:
        octets += len(field.raw)
        if octets >= max_octets:
            return tuple(shown), True
        name = field.raw.partition(b":")[0].decode("ascii", "replace").rstrip()
        shown.append((name, field.value.decode("utf-8", "replace")))
    return tuple(shown), False


def common_headers(mail: Mail) -> dict[str, Any]:
    """The fields that receivers ask for most, by SES's names; only those that there are.

    The message's id stands in for a Message-ID that the sender did not write.
    """
    first: dict[str, str] = {}
    for name, value in mail.headers:
        first.setdefault(name.lower(), value)
    found: dict[str, Any] = {
        shown: mailboxes(first[name]) for name, shown in _ADDRESS_LISTS if name in first
    }
    first.setdefault("message-id", mail.message_id)
    return found | {shown: first[name] for name, shown in _TEXTS if name in first}


def mailboxes(value: str) -> list[str]:
    """The mailboxes of an unfolded list, as written; for showing, not for deciding."""
    pieces = (piece[0].strip() for piece in _MAILBOX.finditer(value))
    return [piece for piece in pieces if piece]


def event_tags(mail: Mail, extra: Iterable[tuple[str, str]] = ()) -> dict[str, list[str]]:
    """The tags of an event: those that SES adds, then the sender's own.

    A tag of the sender cannot replace one that SES adds.
    """
    automatic = (
        ("ses:operation", mail.operation),
        ("ses:configuration-set", mail.configuration_set),
        ("ses:source-ip", mail.source_ip),
        ("ses:from-domain", mail.from_domain),
        ("ses:caller-identity", mail.caller_identity),
        *extra,
    )
    found = {name: [value] for name, value in automatic if value}
    for name, value in mail.tags:
        if not name.startswith("ses:"):
            found.setdefault(name, []).append(value)
    return found


def notification_mail(mail: Mail, *, with_headers: bool) -> dict[str, Any]:
    """The ``mail`` object of an identity's notification."""
    return {
        "timestamp": timestamp(mail.timestamp),
        "source": mail.source,
        "sourceArn": mail.source_arn,
        "sourceIp": mail.source_ip,
        "callerIdentity": mail.caller_identity,
        "sendingAccountId": mail.sending_account_id,
        "messageId": mail.message_id,
        "destination": list(mail.destination),
        **(_headers(mail) if with_headers else {}),
    }


def event_mail(mail: Mail, extra_tags: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """The ``mail`` object of a published event, which always has headers and tags."""
    return {
        "timestamp": timestamp(mail.timestamp),
        "source": mail.source,
        "sourceArn": mail.source_arn,
        "sendingAccountId": mail.sending_account_id,
        "messageId": mail.message_id,
        "destination": list(mail.destination),
        **_headers(mail),
        "tags": event_tags(mail, extra_tags),
    }


def _headers(mail: Mail) -> Mapping[str, Any]:
    return {
        "headersTruncated": mail.headers_truncated,
        "headers": [{"name": name, "value": value} for name, value in mail.headers],
        "commonHeaders": common_headers(mail),
    }
