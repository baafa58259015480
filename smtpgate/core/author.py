"""From and Sender: who the message says it is from, read in exactly one way or refused.

This is a strict reader of RFC 5322 §3.4 mailbox lists, made for authorization: the standard
library's reads ``alice@example.org)bob@example.com`` as alice. What is legal, or once was, but
read differently by mail programs is refused: groups, routes, white space inside an address,
an address as display name without quotes, and comments. Two harmless habits pass, since all
read them alike: ``root@example.com (Cron Daemon)``, where the comment is the display name, and
``a@example.com <a@example.com>``, where the two are the same mailbox.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smtpgate.core.address import AddressError, Mailbox, parse_mailbox
from smtpgate.core.display_name import DisplayNameError, display_name
from smtpgate.core.headers import HeaderBlock

__all__ = ["Author", "AuthorError", "parse_authors", "read_author_fields"]

_MAX_OCTETS: Final = 64 * 1024
_MAX_AUTHORS: Final = 100
# More than any address has, also in UTF-8 (RFC 5321 §4.5.3.1.3 allows 254 octets): what is
# longer is not looked at, because reading an internationalised label takes quadratic time.
_MAX_ADDRESS: Final = 1000

# The pieces of a mailbox list, each as long as it can be. A comment is taken only if nothing in
# it could be read as a piece of something else.
_TOKEN: Final = re.compile(
    r"(?P<space>[ \t]+)"
    r'|(?P<quoted>"[^"\\\r\n]*(?:\\[^\r\n][^"\\\r\n]*)*"(?:@[^ \t\r\n"(),:;<>@\\]*)?)'
    r"|(?P<angle><[^<>\r\n]*>)"
    r"|(?P<comma>,)"
    r'|(?P<comment>\([^()<>@,:;"\\\r\n]*\))'
    r'|(?P<word>[^ \t\r\n"(),:;<>\\]+)'
)
_REFUSED: Final = {
    "(": "comments are not accepted before the end, or with special characters in them",
    ")": "unbalanced parenthesis",
    ":": "groups and routes are not accepted",
    ";": "groups are not accepted",
    "<": "unbalanced '<'",
    ">": "unbalanced '>'",
    '"': "unbalanced quote",
    "\\": "backslash outside quotes",
}
_Token = tuple[str, str]


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

    Several authors without a Sender pass (RFC 5322 §3.6.2 wants one): each is authorized.
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


def parse_authors(value: bytes | str, *, smtputf8: bool) -> tuple[Author, ...]:
    """Read a mailbox list that is unfolded already. Raises AuthorError."""
    if len(value) > _MAX_OCTETS:
        raise AuthorError(f"longer than {_MAX_OCTETS} octets")
    if not smtputf8 and not value.isascii():  # RFC 6532 §3
        raise AuthorError("8-bit characters need the SMTPUTF8 parameter, or RFC 2047 encoding")
    try:
        text = value if isinstance(value, str) else value.decode("utf-8")
    except UnicodeDecodeError:
        raise AuthorError("not UTF-8") from None
    if not text.strip(" \t"):
        raise AuthorError("it names nobody")
    authors: list[Author] = []
    pending: list[_Token] = []
    for token in (*_tokens(text), ("comma", ",")):
        if token[0] != "comma":
            pending.append(token)
            continue
        if len(authors) == _MAX_AUTHORS:
            raise AuthorError(f"more than {_MAX_AUTHORS} mailboxes")
        authors.append(_author(pending))
        pending = []
    return tuple(authors)


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise AuthorError(_REFUSED.get(text[place], f"unexpected {text[place]!a}"))
        kind = match.lastgroup
        if kind is not None and kind != "space":
            yield kind, match[0]
        place = match.end()


def _author(tokens: list[_Token]) -> Author:
    if not tokens:
        raise AuthorError("an empty place in the list of mailboxes")
    kind, piece = tokens[-1]
    if kind == "angle":
        mailbox = _mailbox(piece[1:-1].strip(" \t"))
        return Author(_name(tokens[:-1], mailbox), mailbox)
    if kind == "comment" and len(tokens) == 2 and tokens[0][0] in ("word", "quoted"):
        mailbox = _mailbox(tokens[0][1])
        return Author(_shown(piece[1:-1].split()), mailbox)
    if len(tokens) == 1 and kind in ("word", "quoted"):
        return Author(None, _mailbox(piece))
    if any(other == "comment" for other, _ in tokens):
        raise AuthorError(_REFUSED["("])
    if any(other == "angle" for other, _ in tokens):
        raise AuthorError("text after the address")
    raise AuthorError("white space in the address, or no angle brackets around it")


def _mailbox(text: str) -> Mailbox:
    if len(text) > _MAX_ADDRESS:
        raise AuthorError("the address is too long")
    if "=?" in text:
        # RFC 2047 §5 has none there, but programs decode them, into another address.
        raise AuthorError("an encoded word in the address")
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise AuthorError(str(error)) from None


def _name(tokens: list[_Token], mailbox: Mailbox) -> str | None:
    """The display name that the tokens before an address make."""
    for kind, piece in tokens:
        if kind == "angle":
            raise AuthorError("two addresses without a comma between them")
        if kind == "comment":
            raise AuthorError(_REFUSED["("])
        if kind == "quoted" and not piece.endswith('"'):
            raise AuthorError("an address where a display name should be")
        if kind == "word" and "@" in piece and not _is_spelling_of(piece, mailbox):
            raise AuthorError("another address before the address, without quotes")
        if kind == "word" and ("[" in piece or "]" in piece):
            raise AuthorError("square brackets in the display name, without quotes")
    if tokens and tokens[0][1].startswith("."):  # RFC 5322 §4.1: a phrase begins with a word
        raise AuthorError("the display name begins with a full stop, without quotes")
    return _shown([piece for _, piece in tokens])


def _shown(pieces: list[str]) -> str | None:
    try:
        return display_name(pieces)
    except DisplayNameError as error:
        raise AuthorError(f"display name: {error}") from None


def _is_spelling_of(text: str, mailbox: Mailbox) -> bool:
    try:
        return len(text) <= _MAX_ADDRESS and parse_mailbox(text) == mailbox
    except AddressError:
        return False
