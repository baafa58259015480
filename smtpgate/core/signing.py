"""DKIM signatures: canonicalization and the DKIM-Signature field (RFC 6376, RFC 8463).

Written for the path of a message: the body is canonicalized with a few passes over the octets
and none over its lines, and is hashed once for all keys. Keys are parsed elsewhere, once.
"""

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import compress
from operator import attrgetter
from typing import Final

from msgspec import Struct

from smtpgate.core.identity import DkimKey
from smtpgate.core.message.body import Body, Octets, StoredBody
from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message.reading import LARGE_OCTETS
from smtpgate.core.moments import kept_microseconds

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
_NAME: Final = attrgetter("name")
_LINE: Final = 72
_FOLD: Final = b"\r\n\t"
_SLICE: Final = 256 * 1024
# As much is searched for runs of spaces behind a space.
_WINDOW_OCTETS: Final = 4096
# Blocks with more octets in names are rare, and would fill the memory with them.
_MAX_CACHED_OCTETS: Final = 2048
# See _sha256.
_HASHED_AT_ONCE: Final = 2047
_SHORT_OCTETS: Final = 16 * 1024
# A copy costs less than a new one, for which OpenSSL looks the function up by its name.
_NO_OCTETS: Final = hashlib.sha256()


class _RelaxedBody:
    """A body that arrives in pieces, under relaxed canonicalization (RFC 6376 §3.4.4).

    Line ends must be CRLF throughout, with the CR and the LF of one in one piece.
    """

    def __init__(self) -> None:
        self._is_empty = True
        # Both count only when something follows that is not white space.
        self._line_ends = 0
        self._has_space = False

    def feed(self, piece: bytes) -> Sequence[bytes]:
        """Take in the next octets, and return those that are certain then."""
        relaxed = _relaxed(b" " + piece if self._has_space else piece)
        line = relaxed.rstrip(b" ")
        self._has_space = len(line) != len(relaxed)
        content = line.rstrip(b"\r\n")
        found: list[bytes] = []
        if content:
            if self._line_ends:
                many, rest = divmod(self._line_ends, _SLICE)
                found += [b"\r\n" * _SLICE] * many + [b"\r\n" * rest]
                self._line_ends = 0
            self._is_empty = False
            found.append(content)
        self._line_ends += (len(line) - len(content)) // 2
        return found

    def end(self) -> bytes:
        """The last octets; a body of nothing but empty lines has none."""
        return b"" if self._is_empty else b"\r\n"


def _slices(view: memoryview) -> Iterator[bytes]:
    """The octets in slices that part no CR from its LF."""
    place = 0
    while place < len(view):
        stop = min(place + _SLICE, len(view))
        stop += bytes(view[stop - 1 : stop + 1]) == b"\r\n"
        yield bytes(view[place:stop])
        place = stop


def _relaxed(piece: bytes) -> bytes:
    """The piece with runs of white space replaced by one space, and none at line ends.

    Single octets are searched for first: that is tens of times faster than longer patterns, and
    base64 has neither spaces nor tabs. Python searches for short patterns twice as fast from
    the end as from the beginning.
    """
    piece = piece.replace(b"\t", b" ")
    if len(piece) <= _WINDOW_OCTETS:
        return _squeezed(piece) if piece.find(b" ") >= 0 else piece
    parts: list[Octets] = []
    view, place = memoryview(piece), 0
    while (space := piece.find(b" ", place)) >= 0:
        stop = piece.find(b"\n", space + _WINDOW_OCTETS) + 1 or len(piece)
        parts += view[place:space], _squeezed(piece[space:stop])
        place = stop
    return b"".join([*parts, view[place:]]) if parts else piece


def _squeezed(octets: bytes) -> bytes:
    """Whole lines without tabs, with runs of spaces made one space, and none at line ends."""
    # A space before a CRLF is one before another space in this copy: so one search finds both.
    if octets.replace(b"\r", b" ").rfind(b"  ") < 0:
        return octets
    if octets.rfind(b"  ") >= 0:
        # A tab can mark the second space of each pair. Three passes take care of runs of any
        # length; halving the runs until none is left takes many.
        octets = octets.replace(b"  ", b" \t").replace(b"\t ", b"").replace(b"\t", b"")
    if octets.rfind(b" \r\n") >= 0:
        octets = octets.replace(b" \r\n", b"\r\n")
    return octets


def _sha256(octets: bytes) -> "hashlib._Hash":
    """Their digest, of a short body without a call for which Python gives the interpreter away.

    It does so for 2048 octets or more. That lets other threads run while a long body is hashed;
    in the two microseconds of a short one it wakes them, and they wait again.
    """
    digest = _NO_OCTETS.copy()
    if not _HASHED_AT_ONCE < len(octets) <= _SHORT_OCTETS:
        digest.update(octets)
        return digest
    for at in range(0, len(octets), _HASHED_AT_ONCE):
        digest.update(octets[at : at + _HASHED_AT_ONCE])
    return digest


def body_hash(body: Octets) -> bytes:
    """The ``bh=`` value: base64 of SHA-256 over the relaxed body."""
    if len(body) <= _SLICE:  # in one piece, white space at its end is the end of the body
        content = _relaxed(bytes(body)).rstrip(b" \r\n")
        digest = _sha256(content + b"\r\n" if content else b"").digest()
        return b2a_base64(digest, newline=False)
    of_body = BodyHash()
    for piece in _slices(memoryview(body)):
        of_body.update(piece)
    return of_body.value()


def _relaxed_header(heads: Iterable[bytes], fields: Iterable[Field]) -> bytes:
    """Header fields under relaxed canonicalization (RFC 6376 §3.4.2), all in one go.

    ``heads`` are their names, each with its colon. A CRLF with white space behind it is a fold:
    outer white space is gone before.
    """
    lines = [
        head + field.raw[len(head) :].strip(b" \t\r\n")
        for head, field in zip(heads, fields, strict=True)
    ]
    lines.append(b"")
    return _relaxed(b"\r\n".join(lines).replace(b"\t", b" ").replace(b"\r\n ", b" "))


class BodyHash:
    """The ``bh=`` value of a body in pieces, as :class:`_RelaxedBody` takes them."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._relaxed = _RelaxedBody()

    def update(self, piece: bytes) -> None:
        """Take in the next octets."""
        for octets in self._relaxed.feed(piece):
            self._digest.update(octets)

    def value(self) -> bytes:
        """The hash, once the whole body was taken in."""
        self._digest.update(self._relaxed.end())
        return b2a_base64(self._digest.digest(), newline=False)


def takes_long_to_sign(body: Body) -> bool:
    """True if to hash the body takes more than a millisecond."""
    return not isinstance(body, StoredBody) and len(body) > LARGE_OCTETS


def keys_for(keys: Sequence[DkimKey], most: int | None) -> Sequence[DkimKey]:
    """The keys that sign for a server that takes so many signatures: RSA first.

    Every verifier knows RSA, and not all know Ed25519 (RFC 8463 §3).
    """
    if most is None or len(keys) <= most:
        return keys
    return sorted(keys, key=lambda key: key.private_key.algorithm != "rsa-sha256")[:most]


def signature_fields(
    block: HeaderBlock,
    body: Body,
    domain: str,
    keys: Sequence[DkimKey],
    now: datetime,
) -> tuple[Field, ...]:
    """One DKIM-Signature field a key, relaxed/relaxed, with the fields of ``OVERSIGNED``.

    Fields that stand more than once are signed from the bottom up (RFC 6376 §5.4.2).
    """
    fields = block.fields[::-1]
    # As long as each field has another name, the block has the names already, in this order.
    names = tuple(map(_NAME, fields) if block.has_names_twice else block.by_name)
    look = _to_sign_again if sum(map(len, names)) <= _MAX_CACHED_OCTETS else _to_sign
    signed = look(names)
    tag = signed.tag
    bh = body.relaxed_hash if isinstance(body, StoredBody) else body_hash(body)
    seconds = kept_microseconds(now) // 1_000_000
    tags = _Tags(
        b"t=%d;%b\r\n\tbh=%b;\r\n\tb=" % (seconds, tag.written, bh),
        b"t=%d;%b bh=%b; b=" % (seconds, tag.relaxed, bh),
    )
    head = _sha256(_relaxed_header(signed.heads, compress(fields, signed.are_signed)))
    return tuple([_signature_field(key, domain, tags, head.copy()) for key in keys])


class _Tags(Struct, frozen=True, gc=False):
    """Tags of the field as they are written, folded, and under relaxed canonicalization."""

    written: bytes
    relaxed: bytes

    @classmethod
    def of(cls, written: bytes) -> "_Tags":
        """Tags whose folds alone are not relaxed."""
        return cls(written, written.replace(_FOLD + b" ", b" ").replace(_FOLD, b" "))


class _FieldsToSign(Struct, frozen=True, gc=False):
    """The fields of a block that are signed: which they are, and their names with a colon.

    The tag ``h=`` names them, and once more each that is oversigned.
    """

    are_signed: tuple[bool, ...]
    heads: tuple[bytes, ...]
    tag: _Tags


def _signature_field(key: DkimKey, domain: str, tags: _Tags, head: "hashlib._Hash") -> Field:
    """The field with the key's tags and those, after the digest of the signed fields."""
    of_key = _tags_of_key(key.private_key.algorithm, domain, key.selector)
    # RFC 6376 §3.7: its own field comes last, with an empty b= and without its CRLF.
    head.update(of_key.relaxed + tags.relaxed)
    signature = b2a_base64(key.private_key.sign(head.digest()), newline=False)
    lines = [signature[at : at + _LINE] for at in range(0, len(signature), _LINE)]
    written = (of_key.written, tags.written, _FOLD.join(lines), b"\r\n")
    return Field(b"dkim-signature", b"".join(written))


@lru_cache(maxsize=1024)
def _tags_of_key(algorithm: str, domain: str, selector: str) -> _Tags:
    """The beginning of the field, which all signatures of a key have. Raises ValueError."""
    for labels in (domain, selector):
        if not _LABELS.fullmatch(labels):
            raise ValueError(f"no domain or selector: {labels!r}")
    tags = f"v=1; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain}; s={selector}; "
    of_key = _Tags.of(tags.encode("ascii"))
    return _Tags(b"DKIM-Signature: " + of_key.written, b"dkim-signature:" + of_key.relaxed)


def _to_sign(names: tuple[bytes, ...]) -> _FieldsToSign:
    """The fields that are signed of a block with these names, from the bottom up."""
    are_signed = tuple([name in SIGNED for name in names])
    signed = tuple(compress(names, are_signed))
    tag = _Tags.of(b"\r\n\th=%b:\r\n\t %b;" % (_folded(signed), _folded(OVERSIGNED)))
    return _FieldsToSign(are_signed, tuple([name + b":" for name in signed]), tag)


# The messages of a sender have the same fields.
_to_sign_again: Final = lru_cache(maxsize=256)(_to_sign)


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
