"""The header block as octets: cut, looked into, and joined again, never printed anew.

A changed octet breaks signatures, the author's and ours. So a field is its name and its raw
octets, and everything that is not taken out leaves as it came.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = [
    "Field",
    "HeaderBlock",
    "HeaderError",
    "Message",
    "duplicate_field",
    "line_end_problem",
    "normalize_line_ends",
    "split_message",
]

_MAX_BLOCK_OCTETS: Final = 256 * 1024
_MAX_FIELDS: Final = 1000
_MAX_LINE_OCTETS: Final = 998  # RFC 5322 §2.1.1, without the CRLF
_MAX_HOPS: Final = 50  # RFC 5321 §6.3 asks for a limit of 100 at most per loop detection

# One field: a name of printable ASCII without the colon (RFC 5322 §2.2), white space that old
# software puts before the colon (§4.5.8), and a value that goes on over folded lines.
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_LONE_LF: Final = re.compile(rb"(?<!\r)\n")
_SHOWN_OCTETS: Final = 40

# RFC 5322 §3.6 and RFC 2045 §3: at most once. A message in which one stands twice is read one
# way by one program and another way by the next.
_ONCE: Final = frozenset(
    {
        b"bcc",
        b"cc",
        b"content-description",
        b"content-disposition",
        b"content-id",
        b"content-transfer-encoding",
        b"content-type",
        b"date",
        b"from",
        b"in-reply-to",
        b"message-id",
        b"mime-version",
        b"references",
        b"reply-to",
        b"return-path",
        b"sender",
        b"subject",
        b"to",
    }
)


class HeaderError(ValueError):
    """A header block that cannot be read in exactly one way."""


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: its name in lower case, and its octets as they came, CRLF included."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded (RFC 5322 §2.2.3), without outer white space."""
        return _FOLD.sub(b"", self.raw.partition(b":")[2]).strip(b" \t\r\n")


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """All the fields, in order."""

    fields: tuple[Field, ...]

    def all(self, name: bytes) -> tuple[Field, ...]:
        """Every field of that name (lower case)."""
        return tuple(field for field in self.fields if field.name == name)

    def first(self, name: bytes) -> Field | None:
        """The first field of that name (lower case)."""
        return next((field for field in self.fields if field.name == name), None)

    def without(self, names: Iterable[bytes]) -> "HeaderBlock":
        """The block less every field of those names (lower case)."""
        gone = frozenset(names)
        return HeaderBlock(tuple(field for field in self.fields if field.name not in gone))


@dataclass(frozen=True, slots=True)
class Message:
    """A message cut in two; ``body`` is what follows the empty line."""

    block: HeaderBlock
    body: bytes | memoryview


def line_end_problem(octets: bytes) -> str | None:
    """What is wrong with the line ends: a NUL, a bare CR or a bare LF (RFC 5321 §2.3.8)."""
    if b"\0" in octets:
        return "the message holds a NUL octet"
    pairs = octets.count(b"\r\n")
    if octets.count(b"\n") != pairs:
        return "the message holds a bare LF; lines end with CR LF"
    if octets.count(b"\r") != pairs:
        return "the message holds a bare CR; lines end with CR LF"
    return None


def normalize_line_ends(octets: bytes) -> bytes:
    """The message with each bare LF made a CRLF; a bare CR is left, and refused later."""
    if octets.count(b"\n") == octets.count(b"\r\n"):
        return octets
    return _LONE_LF.sub(b"\r\n", octets)


def split_message(octets: bytes) -> Message:
    """Cut the header block from the body. The line ends must be CRLF throughout.

    A message without an empty line is all header (RFC 5322 §2.1). Raises HeaderError.
    """
    if octets.startswith(b"\r\n"):
        raise HeaderError("the message has no header fields")
    end = octets.find(b"\r\n\r\n", 0, _MAX_BLOCK_OCTETS + 4)
    if end < 0:
        if len(octets) > _MAX_BLOCK_OCTETS:
            raise HeaderError(f"the header block is larger than {_MAX_BLOCK_OCTETS} octets")
        end = len(octets) - 2 if octets.endswith(b"\r\n") else len(octets)
    head = octets[: end + 2] if octets.startswith(b"\r\n", end) else octets[:end] + b"\r\n"
    return Message(HeaderBlock(_fields(head)), memoryview(octets)[end + 4 :])


def _fields(head: bytes) -> tuple[Field, ...]:
    fields: list[Field] = []
    place, end = 0, len(head)
    while place < end:
        match = _FIELD.match(head, place)
        if match is None:
            raise HeaderError(_problem_at(head, place))
        raw = match[0]
        if len(raw) > _MAX_LINE_OCTETS and _has_long_line(raw):
            name = match[1].decode("ascii")
            raise HeaderError(
                f"a line of field '{name}' is longer than {_MAX_LINE_OCTETS} octets"
            )
        fields.append(Field(match[1].lower(), raw))
        place = match.end()
    if len(fields) > _MAX_FIELDS:
        raise HeaderError(f"the message has more than {_MAX_FIELDS} header fields")
    if sum(field.name == b"received" for field in fields) > _MAX_HOPS:
        raise HeaderError(f"the message has passed more than {_MAX_HOPS} servers: a mail loop")
    return tuple(fields)


def _has_long_line(raw: bytes) -> bool:
    return any(len(line) > _MAX_LINE_OCTETS for line in raw.split(b"\r\n"))


def _problem_at(head: bytes, place: int) -> str:
    line = head[place : head.index(b"\r\n", place)]
    number = head.count(b"\r\n", 0, place) + 1
    shown = line[:_SHOWN_OCTETS].decode("ascii", "replace")
    if line[:1] in (b" ", b"\t"):
        return f"line {number} of the header block continues nothing: '{shown}'"
    return f"line {number} of the header block is no field: '{shown}'"


def duplicate_field(block: HeaderBlock) -> bytes | None:
    """The name of a field that stands twice though it may stand once."""
    seen: set[bytes] = set()
    for field in block.fields:
        if field.name in _ONCE:
            if field.name in seen:
                return field.name
            seen.add(field.name)
    return None
