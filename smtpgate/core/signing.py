"""DKIM signatures: canonicalization and the DKIM-Signature field (RFC 6376, RFC 8463).

Written for the path of a message: the body is canonicalized with a few passes over the octets
and none over its lines, and is hashed once for all keys. Keys are parsed elsewhere, once.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from smtpgate.core.identity import DkimKey
from smtpgate.core.message.headers import Field, HeaderBlock

# Named once more than they occur, also when they do not occur: one more that is added
# on the way breaks the signature (RFC 6376 §5.4.2, §8.15). These are the fields that mail
# programs show, act on, or read the body by.
OVERSIGNED: Final = (
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
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"in-reply-to",
    b"references",
    b"resent-from",
)
# RFC 6376 §5.4.1, and what the large mailbox providers ask for. Trace fields and Return-Path
# change on the way and are never signed.
SIGNED: Final = frozenset(
    {
        *OVERSIGNED,
        b"content-id",
        b"content-description",
        b"resent-date",
        b"resent-sender",
        b"resent-to",
        b"resent-cc",
        b"resent-message-id",
        b"list-id",
        b"list-help",
        b"list-subscribe",
        b"list-post",
        b"list-owner",
        b"list-archive",
        b"feedback-id",
    }
)
# Domain and selector are written into the field as they are: labels (RFC 6376 §3.1), and
# nothing that could end the tag or the line.
_LABELS: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_LINE: Final = 72
_SLICE: Final = 256 * 1024


def relaxed_body(body: bytes | memoryview) -> Iterator[bytes]:
    """The body under relaxed canonicalization (RFC 6376 §3.4.4), in pieces.

    Line ends must be CRLF throughout. No more than a few slices are in memory beside the body.
    """
    view = memoryview(body)
    place, end = 0, _end_of_content(view)
    if end == 0:
        return  # RFC 6376 §3.4.4: a body of nothing but empty lines counts as no octets
    while place < end:
        piece = _next_piece(view, place, end)
        place += len(piece)
        yield _relaxed(piece)
    yield b"\r\n"


def _end_of_content(view: memoryview) -> int:
    """The offset after the last octet that is not white space.

    Only white space at line ends and empty lines follow it: both are ignored.
    """
    end = len(view)
    while end > 0:
        start = max(end - _SLICE, 0)
        content = bytes(view[start:end]).rstrip(b" \t\r\n")
        if content:
            return start + len(content)
        end = start
    return 0


def _next_piece(view: memoryview, place: int, end: int) -> bytes:
    """The octets from there to the next point where the body may be cut.

    That is the end of a line, or in a line longer than a slice the end of a word: a run of
    white space stays whole, and so does a CRLF.
    """
    size = _SLICE
    while place + size < end:
        piece = bytes(view[place : place + size])
        stop = piece.rfind(b"\n") + 1 or len(piece.rstrip(b" \t\r"))
        if stop:
            return piece[:stop]
        size *= 2
    return bytes(view[place:end])


def _relaxed(piece: bytes) -> bytes:
    """The piece with runs of white space replaced by one space, and none at line ends.

    Single octets are searched for first: that is tens of times faster than longer patterns, and
    base64 has neither spaces nor tabs.
    """
    if b"\t" in piece:
        piece = piece.replace(b"\t", b" ")
    elif b" " not in piece:
        return piece
    if b"  " in piece:
        # No tab is left, so a tab can mark the second space of each pair. Three passes take
        # care of runs of any length; halving the runs until none is left takes many.
        piece = piece.replace(b"  ", b" \t").replace(b"\t ", b"").replace(b"\t", b"")
    if b" \r\n" in piece:
        piece = piece.replace(b" \r\n", b"\r\n")
    return piece


def body_hash(body: bytes | memoryview) -> bytes:
    """The ``bh=`` value: base64 of SHA-256 over the relaxed body."""
    digest = hashlib.sha256()
    for piece in relaxed_body(body):
        digest.update(piece)
    return base64.b64encode(digest.digest())


def _relaxed_field(name: bytes, raw: bytes) -> bytes:
    """A header field under relaxed canonicalization (RFC 6376 §3.4.2), with its CRLF."""
    value = _relaxed(raw.partition(b":")[2].replace(b"\r\n", b""))
    return b"%s:%s\r\n" % (name, value.strip(b" "))


def signature_fields(
    block: HeaderBlock,
    body: bytes | memoryview,
    *,
    domain: str,
    keys: Sequence[DkimKey],
    now: datetime,
) -> tuple[Field, ...]:
    """One DKIM-Signature field a key, relaxed/relaxed, with the fields of ``OVERSIGNED``.

    Fields that stand more than once are signed from the bottom up (RFC 6376 §5.4.2).
    """
    for labels in (domain, *(key.selector for key in keys)):
        if not _LABELS.fullmatch(labels):
            raise ValueError(f"no domain or selector: {labels!r}")
    signed = [field for field in reversed(block.fields) if field.name in SIGNED]
    head = b"".join([_relaxed_field(field.name, field.raw) for field in signed])
    names = _folded([field.name for field in signed]) + _OVERSIGNED_NAMES
    bh = body_hash(body)
    return tuple(_signature(key, domain, names, bh, head, now) for key in keys)


def _signature(
    key: DkimKey, domain: str, names: bytes, bh: bytes, head: bytes, now: datetime
) -> Field:
    value = (
        b"v=1; a=%s; c=relaxed/relaxed;\r\n\td=%s; s=%s; t=%d;\r\n\th=%s;\r\n\tbh=%s;\r\n\tb="
    ) % (
        key.private_key.algorithm.encode("ascii"),
        domain.encode("ascii"),
        key.selector.encode("ascii"),
        int(now.timestamp()),
        names,
        bh,
    )
    # RFC 6376 §3.7: its own field comes last, with an empty b= and without its CRLF.
    own = _relaxed_field(b"dkim-signature", b"DKIM-Signature: " + value)[:-2]
    signature = base64.b64encode(key.private_key.sign(hashlib.sha256(head + own).digest()))
    lines = (signature[at : at + _LINE] for at in range(0, len(signature), _LINE))
    raw = b"DKIM-Signature: " + value + b"\r\n\t".join(lines) + b"\r\n"
    return Field(b"dkim-signature", raw)


def _folded(names: list[bytes]) -> bytes:
    """Names for the ``h=`` list, folded at colons so that no line is long."""
    lines: list[bytes] = []
    line = b""
    for name in names:
        if line and len(line) + len(name) > _LINE:
            lines.append(line)
            line = b""
        line += name + b":"
    lines.append(line)
    return b"\r\n\t ".join(lines)[:-1]


# The end of every `h=' list, after the names of the fields that occur: made once.
_OVERSIGNED_NAMES: Final = b":\r\n\t " + _folded(list(OVERSIGNED))
