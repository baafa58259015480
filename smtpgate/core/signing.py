"""DKIM signatures: canonicalization and the DKIM-Signature field (RFC 6376, RFC 8463).

Written for the path of a message: the body is canonicalized with a few passes over the octets
and none over its lines, and is hashed once for all keys. Keys are parsed elsewhere, once.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from smtpgate.core.identity import DkimKey
from smtpgate.core.message.body import Body, Octets, StoredBody
from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message.reading import LARGE_OCTETS

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


def relaxed_body(body: Octets) -> Iterator[bytes]:
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


def body_hash(body: Octets) -> bytes:
    """The ``bh=`` value: base64 of SHA-256 over the relaxed body."""
    digest = hashlib.sha256()
    for piece in relaxed_body(body):
        digest.update(piece)
    return base64.b64encode(digest.digest())


def _relaxed_header(fields: Sequence[Field]) -> bytes:
    """Header fields under relaxed canonicalization (RFC 6376 §3.4.2), all in one go.

    A CRLF with white space behind it is a fold: outer white space is gone before.
    """
    lines = [
        b"%b:%b\r\n" % (field.name, field.raw[len(field.name) + 1 :].strip(b" \t\r\n"))
        for field in fields
    ]
    octets = b"".join(lines)
    return _relaxed(octets.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" "))


class BodyHash:
    """The ``bh=`` value of a body that arrives in pieces.

    It is that of :func:`body_hash`. CR and LF of one line end are in one piece.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._is_empty = True
        # Both count only when something follows that is not white space.
        self._line_ends = 0
        self._has_space = False

    def update(self, piece: bytes) -> None:
        """Take in the next octets."""
        relaxed = _relaxed(b" " + piece if self._has_space else piece)
        line = relaxed.rstrip(b" ")
        self._has_space = len(line) != len(relaxed)
        content = line.rstrip(b"\r\n")
        if content:
            self._end_lines()
            self._digest.update(content)
            self._is_empty = False
        self._line_ends += (len(line) - len(content)) // 2

    def _end_lines(self) -> None:
        while self._line_ends:
            count = min(self._line_ends, _SLICE)
            self._digest.update(b"\r\n" * count)
            self._line_ends -= count

    def value(self) -> bytes:
        """The hash, once the whole body was taken in."""
        if not self._is_empty:
            self._digest.update(b"\r\n")
        return base64.b64encode(self._digest.digest())


def takes_long_to_sign(body: Body) -> bool:
    """True if to hash the body takes more than a millisecond."""
    return not isinstance(body, StoredBody) and len(body) > LARGE_OCTETS


def signature_fields(
    block: HeaderBlock,
    body: Body,
    *,
    domain: str,
    keys: Sequence[DkimKey],
    now: datetime,
) -> tuple[Field, ...]:
    """One DKIM-Signature field a key, relaxed/relaxed, with the fields of ``OVERSIGNED``.

    Fields that stand more than once are signed from the bottom up (RFC 6376 §5.4.2).
    """
    signed = [field for field in reversed(block.fields) if field.name in SIGNED]
    tags = [_tags_of_key(key.private_key.algorithm, domain, key.selector) for key in keys]
    names = _names_tag(tuple([field.name for field in signed]))
    bh = body.relaxed_hash if isinstance(body, StoredBody) else body_hash(body)
    rest = b"t=%d;%b\r\n\tbh=%b;\r\n\tb=" % (now.timestamp(), names, bh)
    head = hashlib.sha256(_relaxed_header(signed))
    return tuple(
        [
            _signature(key, of_key + rest, head.copy())
            for key, of_key in zip(keys, tags, strict=True)
        ]
    )


def _signature(key: DkimKey, tags: bytes, head: "hashlib._Hash") -> Field:
    """The field with those tags, after the digest of the signed fields."""
    unsigned = Field(b"dkim-signature", b"DKIM-Signature: %b\r\n" % tags)
    # RFC 6376 §3.7: its own field comes last, with an empty b= and without its CRLF.
    head.update(_relaxed_header([unsigned])[:-2])
    signature = base64.b64encode(key.private_key.sign(head.digest()))
    lines = [signature[at : at + _LINE] for at in range(0, len(signature), _LINE)]
    return Field(unsigned.name, unsigned.raw[:-2] + b"\r\n\t".join(lines) + b"\r\n")


@lru_cache(maxsize=1024)
def _tags_of_key(algorithm: str, domain: str, selector: str) -> bytes:
    """The tags that all signatures of a key have, folded. Raises ValueError."""
    for labels in (domain, selector):
        if not _LABELS.fullmatch(labels):
            raise ValueError(f"no domain or selector: {labels!r}")
    tags = f"v=1; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain}; s={selector}; "
    return tags.encode("ascii")


@lru_cache(maxsize=256)  # the messages of a sender have the same fields
def _names_tag(names: tuple[bytes, ...]) -> bytes:
    """The tag ``h=``: the fields that occur, and one more of each that is oversigned."""
    return b"\r\n\th=%b:\r\n\t %b;" % (_folded(names), _folded(OVERSIGNED))


def _folded(names: Sequence[bytes]) -> bytes:
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
