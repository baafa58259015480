"""The header block as octets: cut, read, and joined again, never generated again.

A changed octet breaks signatures, the author's and ours. So a field is its name and its raw
octets, and everything that is not taken out leaves as it came.

Anything that other software may read in two ways is refused: line ends other than CRLF, a line
that is no field, a control character, a field twice that may stand once, and a field name with
other characters than software gives to fields: some programs skip the rest, and read ``>From``
as From. White space before the colon is removed, because some programs do not find a field that
has it. 8-bit octets pass in fields that decide nothing (From and Sender are read more strictly
where they are read): many clients write a raw 8-bit Subject, and no program takes it for
anything but text.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

MAX_BLOCK_OCTETS: Final = 256 * 1024
_MAX_FIELDS: Final = 1000
MAX_LINE_OCTETS: Final = 998  # RFC 5322 §2.1.1, RFC 5321 §4.5.3.1.6, without the CRLF
_SHOWN_OCTETS: Final = 40
_SLICE: Final = 256 * 1024
_NUL: Final = "the message holds a NUL octet"
_BARE_LF: Final = "the message holds a bare LF; lines end with CR LF"
_BARE_CR: Final = "the message holds a bare CR; lines end with CR LF"

# A name, and the white space that old software puts before the colon (RFC 5322 §4.5.8).
# RFC 5322 §2.2 allows all of printable ASCII in a name; no field in use needs more than this.
_NAME: Final = re.compile(rb"([A-Za-z0-9._-]+)[ \t]*:")
# A whole field, where line ends are CRLF: its octets, and its name. Whatever else there is, up
# to the end, is found without a name: so nothing is skipped, and nothing is looked at twice.
_FIELD: Final = re.compile(
    rb"(([A-Za-z0-9._-]++):[^\r]*+(?:\r\n[ \t][^\r]*+)*+\r\n)|[\x00-\xff]++"
)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# A table that changes the C0 controls, but tab and the two octets of a CRLF.
_WITHOUT_CONTROLS: Final = _CONTROL.sub(b" ", bytes(range(256)))
# A CRLF that ends a field, and not only a folded line of it (RFC 5322 §2.2.3).
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")

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
        b"sender",
        b"subject",
        b"to",
    }
)


class HeaderError(ValueError):
    """A header block that cannot be read in exactly one way."""


class LongLineError(HeaderError):
    """A header field with a line that is longer than a line may be."""


class Field(Struct, frozen=True, gc=False):
    """One header field: its name in lower case, and its octets with the CRLF.

    The octets are as they came, but for white space before the colon, which is left out.
    """

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """The text behind the colon, unfolded (RFC 5322 §2.2.3), without outer white space."""
        return self.raw[len(self.name) + 1 :].replace(b"\r\n", b"").strip(b" \t")


class HeaderBlock(Struct, frozen=True, gc=False):
    """All the fields, in order.

    ``by_name`` has the first of each name; ``has_names_twice`` if two have the same name. Both
    are made of the fields.

    Most questions about a header are about names that it does not have, or has once. So the
    fields are gone through once, and not again for each question.
    """

    fields: tuple[Field, ...]
    by_name: Mapping[bytes, Field] = {}
    has_names_twice: bool = False

    def __post_init__(self) -> None:
        first = {field.name: field for field in reversed(self.fields)}
        force_setattr(self, "by_name", first)
        force_setattr(self, "has_names_twice", len(first) < len(self.fields))

    def all(self, name: bytes) -> tuple[Field, ...]:
        """Every field of that name (lower case)."""
        first = self.by_name.get(name)
        if first is None:
            return ()
        if not self.has_names_twice:
            return (first,)
        return tuple([field for field in self.fields if field.name == name])

    def first(self, name: bytes) -> Field | None:
        """The first field of that name (lower case)."""
        return self.by_name.get(name)

    def has_any(self, names: Iterable[bytes]) -> bool:
        """True if there is a field of one of those names (lower case)."""
        return not self.by_name.keys().isdisjoint(names)

    def without(self, names: Iterable[bytes]) -> "HeaderBlock":
        """The block less every field of those names (lower case)."""
        gone = frozenset(names)
        if not self.has_any(gone):
            return self
        return HeaderBlock(tuple([field for field in self.fields if field.name not in gone]))

    def with_first(self, *fields: Field) -> "HeaderBlock":
        """The block with those fields put in front."""
        return HeaderBlock(fields + self.fields)

    @property
    def raw_parts(self) -> tuple[bytes, ...]:
        """The octets of each field, to be joined; the empty line is not among them."""
        return tuple([field.raw for field in self.fields])


class Message(Struct, frozen=True, gc=False):
    """A message cut in two; ``body`` is what follows the empty line."""

    block: HeaderBlock
    body: bytes | memoryview


def line_end_problem(octets: bytes) -> str | None:
    """The problem of the line ends, if any: a NUL, a bare CR or LF (RFC 5321 §2.3.8)."""
    if 0 in octets:
        return _NUL
    place, end = 0, len(octets)
    while place < end:
        stop = place + _SLICE
        if octets[stop - 1 : stop] == b"\r":
            stop += 1  # a CRLF is not cut in two
        piece = octets[place:stop]
        if not _has_clean_line_ends(piece):
            return _BARE_LF if _has_bare_lf(octets) else _BARE_CR
        place = stop
    return None


class LineEnds:
    """The problem of the line ends of a message that arrives in pieces.

    It is that of :func:`line_end_problem`. CR and LF of one line end are in one piece.
    """

    def __init__(self) -> None:
        self._problems: set[str] = set()

    def feed(self, piece: bytes) -> None:
        """Look at the next octets."""
        if 0 in piece:
            self._problems.add(_NUL)
        if not _has_clean_line_ends(piece):
            self._problems.add(_BARE_LF if _has_bare_lf(piece) else _BARE_CR)

    @property
    def problem(self) -> str | None:
        """The problem so far, if any; the worst of them when there are several."""
        found = (one for one in (_NUL, _BARE_LF, _BARE_CR) if one in self._problems)
        return next(found, None)


def _has_bare_lf(octets: bytes) -> bool:
    return octets.count(b"\n") != octets.count(b"\r\n")


def _has_clean_line_ends(octets: bytes) -> bool:
    """True if CR and LF come in pairs only.

    They do if, and only if, the octets come back when all CR are taken out and one is put
    before each LF. That is three times as fast as counting the pairs.
    """
    return octets.replace(b"\r", b"").replace(b"\n", b"\r\n") == octets


def normalize_line_ends(octets: bytes) -> bytes:
    """The message with each bare LF made a CRLF; a bare CR is left, and refused later."""
    if _has_clean_line_ends(octets):
        return octets
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def first_long_line(octets: bytes, start: int = 0) -> int | None:
    """The offset of the first line that is longer than ``MAX_LINE_OCTETS``; ends are CRLF.

    It goes from one line end to the last one that a line of full length could reach, so it
    looks at no more than two places for each thousand octets, however many lines there are.
    """
    end, step = len(octets), MAX_LINE_OCTETS + 2
    while end - start > MAX_LINE_OCTETS:
        last = octets.rfind(b"\n", start, start + step)
        if last < 0:
            return start
        start = last + 1
    return None


def split_message(
    octets: bytes,
    *,
    has_clean_line_ends: bool = False,
    max_block_octets: int = MAX_BLOCK_OCTETS,
    max_fields: int = _MAX_FIELDS,
) -> Message:
    """Cut the header block from the body, at the first empty line.

    A message without an empty line is all header (RFC 5322 §2.1). ``has_clean_line_ends``: it
    has no problem that :func:`line_end_problem` finds. Raises HeaderError.
    """
    if not octets or octets.startswith(b"\r\n"):
        raise HeaderError("the message has no header fields")
    end = octets.find(b"\r\n\r\n", 0, max_block_octets + 4)
    if end < 0:
        end = len(octets) - 2 if octets.endswith(b"\r\n") else len(octets)
    if end > max_block_octets:
        raise HeaderError(f"the header block is larger than {max_block_octets} octets")
    head = octets[:end]
    if head.translate(_WITHOUT_CONTROLS) != head or not (
        has_clean_line_ends or _has_clean_line_ends(head)
    ):
        raise HeaderError(_control_problem(head))
    fields = _fields(head + b"\r\n", max_fields)
    return Message(HeaderBlock(fields), memoryview(octets)[end + 4 :])


def _fields(head: bytes, max_fields: int) -> tuple[Field, ...]:
    """The fields of a block; its lines end with CRLF. Raises HeaderError."""
    found = _FIELD.findall(head)
    if not found[-1][1] or len(found) > max_fields or first_long_line(head) is not None:
        return _any_fields(head[:-2], max_fields)
    return tuple([Field(name.lower(), octets) for octets, name in found])


def _any_fields(head: bytes, max_fields: int) -> tuple[Field, ...]:
    """The same of any block, whose last CRLF was taken off: some have white space in names."""
    pieces = _FIELD_END.split(head, max_fields)
    if len(pieces) > max_fields:
        raise HeaderError(f"the message has more than {max_fields} header fields")
    fields: list[Field] = []
    for number, piece in enumerate(pieces):
        match = _NAME.match(piece)
        if match is None:
            raise HeaderError(_line_problem(piece, pieces[:number]))
        name = match[1]
        if first_long_line(piece) is not None:
            shown = name.decode("ascii")[:_SHOWN_OCTETS]
            raise LongLineError(
                f"a line of field '{shown}' is longer than {MAX_LINE_OCTETS} octets"
            )
        fields.append(Field(name.lower(), name + piece[match.end() - 1 :] + b"\r\n"))
    return tuple(fields)


def _control_problem(head: bytes) -> str:
    """The problem of a block with a control other than tab and CRLF: which, in which line."""
    if not _has_clean_line_ends(head):
        return "the header block holds a bare CR or a bare LF"
    match = _CONTROL.search(head)
    if match is None:
        raise AssertionError("no control in the block")
    number = 1 + head.count(b"\r\n", 0, match.start())
    return f"line {number} of the header block holds a control character: 0x{match[0].hex()}"


def _line_problem(piece: bytes, before: list[bytes]) -> str:
    """The problem of a piece that is no field: its line, and how it begins."""
    number = 1 + sum(1 + other.count(b"\r\n") for other in before)
    line = piece.partition(b"\r\n")[0]
    shown = line[:_SHOWN_OCTETS].decode("ascii", "backslashreplace")
    if line[:1] in (b" ", b"\t"):
        return f"line {number} of the header block continues nothing: '{shown}'"
    return f"line {number} of the header block is no field: '{shown}'"


def duplicate_field(block: HeaderBlock) -> bytes | None:
    """The name of a field that stands twice though it may stand once.

    The list is that of RFC 5322 §3.6 and MIME's, and not all of SES's
    (https://docs.aws.amazon.com/ses/latest/dg/header-fields.html): a second Comments or
    DKIM-Signature is allowed by their RFCs, and misleads no reader.
    """
    if not block.has_names_twice:
        return None
    names = [field.name for field in block.fields if field.name in _ONCE]
    return next((name for at, name in enumerate(names) if name in names[:at]), None)
