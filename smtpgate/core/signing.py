"""DKIM signatures: canonicalization and the DKIM-Signature field (RFC 6376, RFC 8463).

Written for the path of a message: the body is canonicalized with a few passes over the octets
and none over its lines, and is hashed once for all keys. Keys are parsed elsewhere, once.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from smtpgate.core.headers import Field, HeaderBlock
from smtpgate.core.identity import DkimKey

__all__ = ["SIGNED", "body_hash", "relaxed_body", "signature_fields"]

# RFC 6376 §5.4.1, and what the large mailbox providers ask for. Trace fields and Return-Path
# change on the way and are never signed.
SIGNED: Final = frozenset(
    {
        b"from",
        b"sender",
        b"reply-to",
        b"subject",
        b"date",
        b"message-id",
        b"to",
        b"cc",
        b"mime-version",
        b"content-type",
        b"content-transfer-encoding",
        b"content-id",
        b"content-description",
        b"resent-date",
        b"resent-from",
        b"resent-sender",
        b"resent-to",
        b"resent-cc",
        b"resent-message-id",
        b"in-reply-to",
        b"references",
        b"list-id",
        b"list-help",
        b"list-unsubscribe",
        b"list-unsubscribe-post",
        b"list-subscribe",
        b"list-post",
        b"list-owner",
        b"list-archive",
        b"feedback-id",
    }
)
_WSP_RUN: Final = re.compile(rb"[ \t]{2,}|\t")
_LINE: Final = 72


def relaxed_body(body: bytes | memoryview) -> bytes | memoryview:
    """The body under relaxed canonicalization (RFC 6376 §3.4.4)."""
    octets = bytes(body)
    if octets and not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    if b"\t" in octets or b"  " in octets:
        octets = _WSP_RUN.sub(b" ", octets)
    # Every run is one space by now, so this takes time in proportion to the body.
    if b" \r\n" in octets:
        octets = octets.replace(b" \r\n", b"\r\n")
    end = len(octets)
    while octets.endswith(b"\r\n\r\n", 0, end):
        end -= 2
    if octets[:end] == b"\r\n":
        end = 0
    return octets if end == len(octets) else memoryview(octets)[:end]


def body_hash(body: bytes | memoryview) -> bytes:
    """The ``bh=`` value: base64 of SHA-256 over the relaxed body."""
    return base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())


def _relaxed_field(name: bytes, raw: bytes) -> bytes:
    """A header field under relaxed canonicalization (RFC 6376 §3.4.2), with its CRLF."""
    value = raw.partition(b":")[2].replace(b"\r\n", b"")
    if b"\t" in value or b"  " in value:
        value = _WSP_RUN.sub(b" ", value)
    return b"%s:%s\r\n" % (name, value.strip(b" \t"))


def signature_fields(
    block: HeaderBlock,
    body: bytes | memoryview,
    *,
    domain: str,
    keys: Sequence[DkimKey],
    now: datetime,
) -> tuple[Field, ...]:
    """One DKIM-Signature field a key, relaxed/relaxed, From oversigned.

    Fields that stand more than once are signed from the bottom up (RFC 6376 §5.4.2). Naming
    From once more than it stands makes an added second From break the signature (§8.15).
    """
    signed = [field for field in reversed(block.fields) if field.name in SIGNED]
    head = b"".join(_relaxed_field(field.name, field.raw) for field in signed)
    names = _folded([field.name for field in signed] + [b"from"])
    digest = body_hash(body)
    return tuple(_signature(key, domain, names, digest, head, now) for key in keys)


def _signature(
    key: DkimKey, domain: str, names: bytes, digest: bytes, head: bytes, now: datetime
) -> Field:
    value = (
        b"v=1; a=%s; c=relaxed/relaxed;\r\n\td=%s; s=%s; t=%d;\r\n\th=%s;\r\n\tbh=%s;\r\n\tb="
    ) % (
        key.private_key.algorithm.encode("ascii"),
        domain.encode("ascii"),
        key.selector.encode("ascii"),
        int(now.timestamp()),
        names,
        digest,
    )
    # RFC 6376 §3.7: its own field comes last, with an empty b= and without its CRLF.
    own = _relaxed_field(b"dkim-signature", b"DKIM-Signature: " + value)[:-2]
    signature = base64.b64encode(key.private_key.sign(hashlib.sha256(head + own).digest()))
    lines = (signature[at : at + _LINE] for at in range(0, len(signature), _LINE))
    raw = b"DKIM-Signature: " + value + b"\r\n\t".join(lines) + b"\r\n"
    return Field(b"dkim-signature", raw)


def _folded(names: list[bytes]) -> bytes:
    """The ``h=`` list, folded at colons so that no line is long."""
    lines: list[bytes] = []
    line = b""
    for name in names:
        if line and len(line) + len(name) > _LINE:
            lines.append(line)
            line = b""
        line += name + b":"
    lines.append(line)
    return b"\r\n\t ".join(lines)[:-1]
