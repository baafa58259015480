"""The parts of a report: a MIME reader for octets of any kind, within bounds.

Lenient, because programs of all ages write reports: line ends of any kind, a boundary that the
header does not name, encodings and character sets that do not fit. Nothing raises.
"""

import binascii
import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from smtpgate.core.feedback.bounds import (
    MAX_BLOCK_OCTETS,
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_OCTETS,
    MAX_PARTS,
    MAX_TEXT,
    MAX_VALUE,
)
from smtpgate.core.message.charsets import codec_of

# Of a text for people, in any character set, and of a text in which JSON is.
_MAX_TEXT_OCTETS: Final = 4 * MAX_TEXT
# Also those of a longer boundary that begins like the one that is looked for.
_MAX_DELIMITERS: Final = 10_000
_FIELD: Final = re.compile(rb"([!-9;-~]{1,76})[ \t]*:(.*)", re.DOTALL)
_PARAMETER: Final = re.compile(
    r";\s*([A-Za-z0-9_-]{1,40})\*?\s*=\s*(?:\"([^\"]{0,300})\"?|([^\s;\"]{1,300}))"
)
_ENCODED_WORD: Final = re.compile(
    r"=\?([A-Za-z0-9_.:-]{1,40})(?:\*[A-Za-z-]{0,20})?\?([BbQq])\?([^?\s]{0,300})\?="
)
# A delimiter line followed by a field of a part's header.
_ANY_DELIMITER: Final = re.compile(
    rb"(?:\A|\n)--([^\s-][^\n]{0,80}|-[^\n]{0,80})\n(?:Content-|MIME-Version:)", re.IGNORECASE
)
_BASE64_ODD: Final = re.compile(rb"[^A-Za-z0-9+/]+")
_TAG: Final = re.compile(r"<(/?[A-Za-z]{1,12}|!)(?:[^<>]{0,1000})>")
_LINE_TAGS: Final = frozenset({"br", "p", "/p", "div", "/div", "tr", "/tr", "li", "/td", "pre"})
_HIDDEN: Final = re.compile(r"<(style|script|head)\b", re.IGNORECASE)
_ENTITIES: Final = (
    ("&nbsp;", " "),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", '"'),
    ("&#39;", "'"),
    ("&amp;", "&"),
)
# Parts that hold a message, or its header, that was sent.
_MESSAGES: Final = frozenset(
    {
        "message/rfc822",
        "message/rfc822-headers",
        "message/global",
        "message/global-headers",
        "text/rfc822",
        "text/rfc822-header",
        "text/rfc822-headers",
    }
)


class Fields(Struct, frozen=True, gc=False):
    """A header block, unfolded: names in lower case, values as text."""

    pairs: tuple[tuple[str, str], ...]

    def first(self, name: str) -> str:
        """The first value of that name, or an empty text."""
        return next((value for one, value in self.pairs if one == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of that name."""
        return tuple([value for one, value in self.pairs if one == name])


class Part(Struct, frozen=True, gc=False):
    """One part that is no multipart: its type, its header, and its octets without encoding."""

    media_type: str
    fields: Fields
    content: bytes

    @property
    def is_message(self) -> bool:
        """True if it is a message, or the header of one."""
        return self.media_type in _MESSAGES

    @property
    def text(self) -> str:
        """As much of its octets as is looked at, as text."""
        charset = parameter(self.fields.first("content-type"), "charset")
        return as_text(self.content[:_MAX_TEXT_OCTETS], charset)


class MimeMessage(Struct, frozen=True, gc=False):
    """A message: its header, the type that it has, and its parts in order."""

    fields: Fields
    media_type: str
    parts: tuple[Part, ...]


def read_message(octets: bytes) -> MimeMessage:
    """Read any octets as a message."""
    octets = octets[:MAX_OCTETS].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    # Files of mailboxes have a line of their own before the message, sometimes empty lines too.
    octets = octets.lstrip(b"\n")
    if octets.startswith(b"From "):
        octets = octets.partition(b"\n")[2]
    fields, body = split(octets)
    media_type = _media_type(fields)
    return MimeMessage(fields, media_type, tuple(_leaves(fields, body)))


def split(octets: bytes) -> tuple[Fields, bytes]:
    """Cut a message or part, with LF as line end, into its fields and its body."""
    if octets.startswith(b"\n"):
        return Fields(()), octets[1:]
    end = octets.find(b"\n\n", 0, MAX_BLOCK_OCTETS)
    if end < 0:
        end = octets.find(b"\n", MAX_BLOCK_OCTETS)
        if end < 0:
            return read_fields(octets), b""
    return read_fields(octets[:end]), octets[end:].lstrip(b"\n")


def read_fields(block: bytes) -> Fields:
    """The fields of a header block with LF as line end; other lines are left out."""
    pairs: list[tuple[str, str]] = []
    lines = block[:MAX_BLOCK_OCTETS].split(b"\n")
    value: list[bytes] = []
    name = b""
    for line in (*lines, b"-"):
        if line[:1] in {b" ", b"\t"}:
            value.append(line)
            continue
        if name:
            text = as_text(b" ".join(part.strip() for part in value)[:MAX_VALUE], "")
            pairs.append((name.decode("ascii").lower(), text.strip()))
            if len(pairs) == MAX_FIELDS:
                break
        match = _FIELD.fullmatch(line)
        name, value = (match[1], [match[2]]) if match else (b"", [])
    return Fields(tuple(pairs))


def parameter(value: str, name: str) -> str:
    """A parameter of a field such as Content-Type, or an empty text."""
    for match in _PARAMETER.finditer(value[:MAX_VALUE]):
        if match[1].lower() == name:
            return match[2] if match[2] is not None else match[3]
    return ""


def as_text(octets: bytes, charset: str) -> str:
    """Octets as text, in a character set if it is one that contains ASCII."""
    codec = codec_of(charset) if charset else None
    if codec not in {None, "ascii", "utf-8"}:
        return octets.decode(codec or "ascii", "replace")
    if b"\x1b$" in octets:  # ISO-2022-JP without its name, as old servers in Japan write it
        return octets.decode("iso2022_jp", "replace")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def without_surrogates(text: str) -> str:
    """A text of JSON, which may hold halves of characters, as one that can be encoded."""
    return text.encode("utf-8", "replace").decode("utf-8")


def decoded_words(text: str) -> str:
    """The text of a field with its encoded words decoded (RFC 2047)."""
    if "=?" not in text:
        return text
    return _ENCODED_WORD.sub(_decoded_word, text.replace("?= =?", "?==?"))


def _decoded_word(match: re.Match[str]) -> str:
    octets = match[3].encode("utf-8")
    if match[2] in "Bb":
        return as_text(_from_base64(octets), match[1])
    return as_text(binascii.a2b_qp(octets, header=True), match[1])


def without_markup(text: str) -> str:
    """The text of an HTML page, about as a reader sees it."""
    first, *others = _HIDDEN.split(text)[::2]
    text = _TAG.sub(_line_or_nothing, first + "".join(map(_after_hidden, others)))
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text


def _after_hidden(piece: str) -> str:
    end = piece.find("</")
    return "" if end < 0 else piece[end:]


def _line_or_nothing(match: re.Match[str]) -> str:
    return "\n" if match[1].lower() in _LINE_TAGS else ""


def _media_type(fields: Fields) -> str:
    value = fields.first("content-type").partition(";")[0].strip().lower()
    return value if "/" in value else "text/plain"


def _leaves(fields: Fields, body: bytes) -> Iterator[Part]:
    """The parts that are no multipart, in order, of a message."""
    pending = [(fields, body, 0)]
    count = 0
    while pending and count < MAX_PARTS:
        fields, body, depth = pending.pop()
        media_type = _media_type(fields)
        pieces: list[bytes] = []
        if media_type.startswith("multipart/") and depth < MAX_DEPTH:
            pieces = _pieces(body, parameter(fields.first("content-type"), "boundary"))
        if pieces:
            parts = [(*split(piece), depth + 1) for piece in pieces]
            pending.extend(reversed(parts))
        else:
            count += 1
            if media_type.startswith("multipart/"):
                media_type = "text/plain"
            encoding = fields.first("content-transfer-encoding").lower()
            yield Part(media_type, fields, _without_encoding(body, encoding))


def _pieces(body: bytes, boundary: str) -> list[bytes]:
    """The parts between delimiters (RFC 2046 §5.1.1); none if there is no delimiter."""
    found = _between(body, boundary.encode("utf-8", "replace").rstrip()) if boundary else []
    if not found:
        # A boundary that was changed on the way, or that the header does not have.
        other = _ANY_DELIMITER.search(body, 0, MAX_BLOCK_OCTETS)
        found = _between(body, other[1].rstrip()) if other else []
    return found


def _between(body: bytes, boundary: bytes) -> list[bytes]:
    delimiter = b"\n--" + boundary
    if body.startswith(delimiter[1:]):
        body = b"\n" + body
    pieces: list[bytes] = []
    start = -1
    at = body.find(delimiter)
    for _ in range(_MAX_DELIMITERS):
        if at < 0:
            break
        line_end = body.find(b"\n", at + 1)
        line_end = len(body) if line_end < 0 else line_end
        rest = body[at + len(delimiter) : min(line_end, at + len(delimiter) + 80)].strip()
        if rest in {b"", b"--"}:
            if start >= 0:
                pieces.append(body[start:at])
            start = line_end + 1
            if rest == b"--" or len(pieces) == MAX_PARTS:
                return pieces
        at = body.find(delimiter, line_end)
    if start >= 0:
        pieces.append(body[start:])
    return pieces


def _without_encoding(body: bytes, encoding: str) -> bytes:
    """The octets that were encoded: never more than the encoded ones (RFC 2045 §6)."""
    if encoding.startswith("base64"):
        return _from_base64(body).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if encoding.startswith("quoted-printable"):
        return binascii.a2b_qp(body).replace(b"\r\n", b"\n")
    return body


def _from_base64(text: bytes) -> bytes:
    letters = _BASE64_ODD.sub(b"", text)
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
