"""From and Sender: who the message says it is from, read in exactly one way or refused.

This is a strict reader of RFC 5322 §3.4 mailbox lists, made for authorization: the standard
library's reads ``alice@example.org)bob@example.com`` as alice. Comments, groups, routes and
white space inside an address are legal or once were, but mail programs disagree on them, so a
message that has them in From is refused.
"""

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smtpgate.core.address import AddressError, Mailbox, parse_mailbox
from smtpgate.core.headers import HeaderBlock

__all__ = ["Author", "AuthorError", "parse_authors", "read_author_fields"]

_MAX_OCTETS: Final = 16 * 1024
_MAX_AUTHORS: Final = 50

# The pieces of a mailbox list, each as long as it can be.
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t]+)
      | (?P<quoted>"(?:[^"\\\r\n]|\\[^\r\n])*"(?:@[^\s"(),:;<>@\[\\\]]*(?:\[[^\s\[\]\\]*\])?)?)
      | (?P<angle><[^<>\r\n]*>)
      | (?P<comma>,)
      | (?P<word>[^\s"(),:;<>\\]+)""",
    re.VERBOSE,
)
_ENCODED_WORD: Final = re.compile(
    r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,20})?\?([QqBb])\?([!->@-~]*)\?="
)
_Q_OCTET: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
# What makes a mail program show something else than what stands there.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class AuthorError(ValueError):
    """A From or Sender field that is missing, malformed or ambiguous."""


@dataclass(frozen=True, slots=True)
class Author:
    """One mailbox of From, with its display name decoded (RFC 2047), if it has one."""

    display_name: str | None
    mailbox: Mailbox


def read_author_fields(
    block: HeaderBlock, *, smtputf8: bool
) -> tuple[tuple[Author, ...], Author | None]:
    """The authors, from the one From field, and the mailbox of Sender when there is one.

    Raises AuthorError naming the field.
    """
    from_fields = block.all(b"from")
    if not from_fields:
        raise AuthorError("Missing required header 'From'.")
    if len(from_fields) > 1:
        raise AuthorError("Duplicate header 'From'.")
    authors = _parse_field("From", from_fields[0].value, smtputf8=smtputf8)
    sender_fields = block.all(b"sender")
    if not sender_fields:
        return authors, None
    if len(sender_fields) > 1:
        raise AuthorError("Duplicate header 'Sender'.")
    senders = _parse_field("Sender", sender_fields[0].value, smtputf8=smtputf8)
    if len(senders) != 1:  # RFC 5322 §3.6.2
        raise AuthorError("header 'Sender' has more than one mailbox")
    return authors, senders[0]


def _parse_field(name: str, value: bytes, *, smtputf8: bool) -> tuple[Author, ...]:
    try:
        return parse_authors(value, smtputf8=smtputf8)
    except AuthorError as error:
        raise AuthorError(f"header '{name}': {error}") from None


def parse_authors(value: bytes, *, smtputf8: bool) -> tuple[Author, ...]:
    """Read a mailbox list. Raises AuthorError."""
    if len(value) > _MAX_OCTETS:
        raise AuthorError(f"longer than {_MAX_OCTETS} octets")
    if not smtputf8 and not value.isascii():
        raise AuthorError("8-bit characters need the SMTPUTF8 parameter, or RFC 2047 encoding")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise AuthorError("not UTF-8") from None
    authors: list[Author] = []
    pending: list[tuple[str, str]] = []
    for kind, piece in (*_tokens(text), ("comma", ",")):
        if kind == "comma":
            authors.append(_author(pending))
            pending = []
        else:
            pending.append((kind, piece))
    if len(authors) > _MAX_AUTHORS:
        raise AuthorError(f"more than {_MAX_AUTHORS} mailboxes")
    return tuple(authors)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise AuthorError(_REFUSED.get(text[place], f"unexpected '{text[place]!a}'"))
        kind = match.lastgroup
        if kind is not None and kind != "space":
            yield kind, match[0]
        place = match.end()


_REFUSED: Final = {
    "(": "comments are not accepted",
    ")": "unbalanced parenthesis",
    ":": "groups and routes are not accepted",
    ";": "groups are not accepted",
    "<": "unbalanced '<'",
    ">": "unbalanced '>'",
    '"': "unbalanced quote",
    "\\": "backslash outside quotes",
}


def _author(tokens: list[tuple[str, str]]) -> Author:
    if not tokens:
        raise AuthorError("an empty place in the list of mailboxes")
    kind, piece = tokens[-1]
    if kind == "angle":
        names = tokens[:-1]
        if any(other == "angle" for other, _ in names):
            raise AuthorError("two addresses without a comma between them")
        return Author(_display_name(names), _mailbox(piece[1:-1]))
    if len(tokens) > 1:
        if any(other == "angle" for other, _ in tokens):
            raise AuthorError("text after the address")
        raise AuthorError("white space in the address, or no angle brackets around it")
    return Author(None, _mailbox(piece))


def _mailbox(text: str) -> Mailbox:
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise AuthorError(str(error)) from None


def _display_name(tokens: list[tuple[str, str]]) -> str | None:
    """Words and quoted strings joined by single spaces; adjacent encoded words by nothing."""
    name, follows_encoded = "", False
    for kind, piece in tokens:
        encoded = _ENCODED_WORD.fullmatch(piece) if kind == "word" else None
        if encoded is not None:
            part = _decoded(*encoded.groups())
        elif kind == "quoted":
            if not piece.endswith('"'):
                raise AuthorError("an address where a display name should be")
            part = _QUOTED_PAIR.sub(r"\1", piece[1:-1])
        else:
            part = piece
        # RFC 2047 §6.2: white space between two encoded words is not shown.
        glue = "" if not name or (follows_encoded and encoded is not None) else " "
        name += glue + part
        follows_encoded = encoded is not None
    if any(unicodedata.category(c) in _INVISIBLE for c in name):
        raise AuthorError("the display name holds an invisible or control character")
    return unicodedata.normalize("NFC", name).strip() or None


def _decoded(charset: str, encoding: str, text: str) -> str:
    try:
        codec = codecs.lookup(charset)
        if encoding in "Bb":
            octets = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        else:
            plain = text.replace("_", " ").encode("ascii")
            octets = _Q_OCTET.sub(lambda match: bytes([int(match[1], 16)]), plain)
        decoded, _ = codec.decode(octets, "strict")
    except (LookupError, binascii.Error, ValueError):
        raise AuthorError("an encoded word of the display name cannot be decoded") from None
    if not isinstance(decoded, str):  # a codec such as rot13 or hex, not a character set
        raise AuthorError("an encoded word of the display name cannot be decoded")
    return decoded
