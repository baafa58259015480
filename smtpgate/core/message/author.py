"""From and Sender: the authors that a message names, read in exactly one way or refused.

This is a strict reader of RFC 5322 §3.4 mailbox lists, made for authorization: the standard
library's reads ``alice@example.org)bob@example.com`` as alice. What is legal, or once was, but
read differently by mail programs is refused: groups, routes, white space inside an address,
a local part that needs quotes, an address as display name without quotes. Habits that all read
alike pass: comments beside an address in angle brackets, which are left out;
``root@example.com (Cron Daemon)``, where the comment is the display name; and
``a@example.com <a@example.com>``, where the two are the same mailbox.

`tests/property/test_author_differential.py` compares this reading with those of other programs.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from msgspec import Struct

from smtpgate.core.address import AddressError, Mailbox, parse_mailbox
from smtpgate.core.message.display_name import DisplayNameError, display_name
from smtpgate.core.message.headers import HeaderBlock

# The longest value that is read. The most costly ones take half a millisecond a KiB, and
# every session waits for it.
_MAX_OCTETS: Final = 8 * 1024
_MAX_AUTHORS: Final = 100
_MAX_PIECES: Final = 1000
# More than any address has, also in UTF-8 (RFC 5321 §4.5.3.1.3 allows 254 octets): what is
# longer is not looked at, because reading an internationalised label takes quadratic time.
_MAX_ADDRESS: Final = 320
_MAX_PLAIN: Final = 500
_MAX_CACHED: Final = 200

# The mailboxes that nearly all messages have: a name of plain words, or of harmless characters
# in quotes, and a dot-atom at a domain. Whatever else there is takes the way below.
_WORD: Final = r"[A-Za-z0-9!#$%&'*+/^_`{|}~-][A-Za-z0-9!#$%&'*+/^_`{|}~.-]*"
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/^_`{|}~-]+"
_PLAIN: Final = re.compile(
    rf'(?:(?:({_WORD}(?: {_WORD})*) ?|"([A-Za-z0-9!#-%&\'()*+,./:;^_`{{|}}~ -]*)" ?)?'
    rf"<({_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9.-]+)>|({_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9.-]+))"
)

# The pieces of a mailbox list, each as long as it can be. A comment may have one in it; it is
# taken only if nothing in it could be read as an address, or hide the end of the comment.
_QUOTES: Final = r'"[^"\\\r\n]*(?:\\[^\r\n][^"\\\r\n]*)*"'
_TEXT: Final = r'[^()<>@"\\\r\n]*'
_REST: Final = r'[^()<>@"\\\r\n,:;]*'  # some programs take an inner comment's end for the end
_TOKEN: Final = re.compile(
    r"(?P<space>[ \t]+)"
    rf'|(?P<quoted>{_QUOTES}(?:@[^ \t\r\n"(),:;<>@\\]*)?)'
    rf'|(?P<angle><[^<>"\r\n]*(?:{_QUOTES}[^<>"\r\n]*)*>)'
    r"|(?P<comma>,)"
    rf"|(?P<comment>\({_TEXT}(?:\({_TEXT}\){_REST})*\))"
    r'|(?P<word>[^ \t\r\n"(),:;<>\\]+)'
)
_REFUSED: Final = {
    "(": "a comment with special characters in it, or without its end",
    ")": "unbalanced parenthesis",
    ":": "groups and routes are not accepted",
    ";": "groups are not accepted",
    "<": "unbalanced '<'",
    ">": "unbalanced '>'",
    '"': "unbalanced quote",
    "\\": "backslash outside quotes",
}
_DOT_ATOM: Final = re.compile(
    r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]+(?:\.[^\x00-\x20"(),.:;<>@\[\\\]\x7f]+)*'
)
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_LIST_MARKS: Final = frozenset(",;:")
_Token = tuple[str, str]


class AuthorError(ValueError):
    """A From or Sender field that is missing, malformed or ambiguous."""


class TooManyAuthorsError(AuthorError):
    """From, Sender or Resent fields that have more in them than is read."""


class Author(Struct, frozen=True, gc=False, cache_hash=True):
    """One mailbox of From, with its display name decoded (RFC 2047), if it has one.

    ``other_names`` are what some programs show instead, because of comments beside the address.
    """

    display_name: str | None
    mailbox: Mailbox
    other_names: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple["Author", ...]:
        """The mailbox under each name that programs show."""
        if not self.other_names:
            return (self,)
        names = (self.display_name, *self.other_names)
        return tuple(Author(name, self.mailbox) for name in names)


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
        raise type(error)(f"header '{name}': {error}") from None


def parse_authors(value: bytes | str, *, smtputf8: bool) -> tuple[Author, ...]:
    """Read a mailbox list that is unfolded already. Raises AuthorError."""
    # Most messages are from an author that has just sent another.
    parse = _parse_again if len(value) <= _MAX_CACHED else _parse
    return parse(value, smtputf8)


def _parse(value: bytes | str, smtputf8: bool) -> tuple[Author, ...]:
    if len(value) > _MAX_OCTETS:
        raise TooManyAuthorsError(f"longer than {_MAX_OCTETS} octets")
    if not smtputf8 and not value.isascii():  # RFC 6532 §3
        raise AuthorError("8-bit characters need the SMTPUTF8 parameter, or RFC 2047 encoding")
    try:
        text = value if isinstance(value, str) else value.decode("utf-8")
    except UnicodeDecodeError:
        raise AuthorError("not UTF-8") from None
    plain = _PLAIN.fullmatch(text) if len(text) <= _MAX_PLAIN else None
    if plain is not None:
        words, quoted, in_brackets, bare = plain.groups()
        name = words or (quoted.strip() if quoted else None)
        return (Author(name or None, _mailbox(in_brackets or bare)),)
    return _parse_list(text)


_parse_again: Final = lru_cache(maxsize=1024)(_parse)


def _parse_list(text: str) -> tuple[Author, ...]:
    if not text.strip(" \t"):
        raise AuthorError("it has no address")
    authors: list[Author] = []
    pending: list[_Token] = []
    for token in (*_tokens(text), ("comma", ",")):
        if token[0] != "comma":
            pending.append(token)
            continue
        if len(authors) == _MAX_AUTHORS:
            raise TooManyAuthorsError(f"more than {_MAX_AUTHORS} mailboxes")
        if authors and pending and pending[0][0] == "comment":
            raise AuthorError("a comment at the start of a mailbox in a list")
        authors.append(_author(pending))
        pending = []
    return tuple(authors)


def _tokens(text: str) -> Iterator[_Token]:
    place = count = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise AuthorError(_REFUSED.get(text[place], f"unexpected {text[place]!a}"))
        kind = match.lastgroup
        if kind is not None and kind != "space":
            count += 1
            if count > _MAX_PIECES:
                raise TooManyAuthorsError(f"more than {_MAX_PIECES} words and marks")
            yield kind, match[0]
        place = match.end()


def _author(tokens: list[_Token]) -> Author:
    if not tokens:
        raise AuthorError("an empty place in the list of mailboxes")
    kinds = [kind for kind, _ in tokens]
    if "angle" in kinds:
        return _in_brackets(tokens, kinds.index("angle"))
    kind, piece = tokens[0]
    if len(tokens) == 1 and kind in ("word", "quoted"):
        return Author(None, _mailbox(piece))
    # Some programs end a comment at the end of one in it, and add the rest to a bare address.
    if kinds == ["word", "comment"] and tokens[1][1].count("(") == 1:
        mailbox = _mailbox(piece)
        return Author(_in_comment(tokens[1][1], mailbox), mailbox)
    if "comment" in kinds:
        raise AuthorError("a comment, but no angle brackets around the address")
    raise AuthorError("white space in the address, or no angle brackets around it")


def _in_brackets(tokens: list[_Token], at: int) -> Author:
    """The mailbox whose address in angle brackets is the token there."""
    mailbox = _mailbox(tokens[at][1][1:-1].strip(" \t"))
    before, after = tokens[:at], tokens[at + 1 :]
    for kind, _ in after:
        if kind == "angle":
            raise AuthorError("two addresses without a comma between them")
        if kind != "comment":
            raise AuthorError("text after the address")
    name = _name(before, mailbox)
    found = (_in_comment(piece, mailbox) for kind, piece in before + after if kind == "comment")
    shown = [comment for comment in found if comment is not None]
    if not shown:
        return Author(name, mailbox)
    if name is not None:
        whole = " ".join([name, *(f"({comment})" for comment in shown)])
        return Author(name, mailbox, (whole,))
    # Programs show a comment where there is no name, as they do beside a bare address.
    if len(shown) == 1:
        return Author(shown[0], mailbox)
    return Author(None, mailbox, (shown[0], shown[-1], " ".join(shown)))


def _mailbox(text: str) -> Mailbox:
    if len(text) > _MAX_ADDRESS:
        raise AuthorError("the address is too long")
    if "=?" in text:
        # RFC 2047 §5 has none there, but programs decode them, into another address.
        raise AuthorError("an encoded word in the address")
    try:
        mailbox = parse_mailbox(text)
    except AddressError as error:
        raise AuthorError(str(error)) from None
    if _DOT_ATOM.fullmatch(mailbox.local_part) is None:
        # Programs differ in where `"alice@example.org x"@example.com` has its local part.
        raise AuthorError("a local part that needs quotes is not accepted here")
    if _stands_for_ascii(mailbox.local_part):
        raise AuthorError("the local part could be read as another local part")
    return mailbox


def _stands_for_ascii(text: str) -> bool:
    """True if a character stands for ASCII in another form, as the full-width at sign does.

    Programs that bring addresses to Unicode normalization form KC read the ASCII character.
    """
    if text.isascii():
        return False
    others = "".join(character for character in text if not character.isascii())
    return any(map(str.isascii, unicodedata.normalize("NFKC", others)))


def _name(tokens: list[_Token], mailbox: Mailbox) -> str | None:
    """The display name that the tokens before an address make."""
    pieces: list[str] = []
    for kind, piece in tokens:
        if kind == "quoted":
            _check_quoted(piece)
        # An address alone may be the same once more; beside other words some read on in them.
        is_address = kind == "word" and "@" in piece
        if is_address and not (len(tokens) == 1 and _is_spelling_of(piece, mailbox)):
            raise AuthorError("another address before the address, without quotes")
        pieces.append("" if kind == "comment" else piece)
    # RFC 5322 §4.1: a phrase begins with a word.
    if next(filter(None, pieces), "").startswith("."):
        raise AuthorError("the display name begins with a full stop, without quotes")
    name = _shown(pieces, mailbox)
    if _has_brackets(tokens) and name is not None and ("@" in name or '"' in name):
        raise AuthorError("square brackets without quotes beside an at sign or quote")
    return name


def _check_quoted(piece: str) -> None:
    """Refuse what is no name, or another one for programs that do not read backslashes."""
    if not piece.endswith('"'):
        raise AuthorError("an address where a display name should be")
    if "\\" in piece:
        quotes = _QUOTED_PAIR.findall(piece).count('"')
        if quotes % 2 or (quotes and "@" in piece and not _LIST_MARKS.isdisjoint(piece)):
            raise AuthorError("unbalanced quotes behind backslashes in the display name")


def _has_brackets(tokens: list[_Token]) -> bool:
    """True if words are in square brackets. Raises AuthorError for an unpaired bracket."""
    seen = is_open = False
    for kind, piece in tokens:
        for bracket in re.findall(r"[\[\]]", piece) if kind == "word" else ():
            if is_open == (bracket == "["):
                raise AuthorError("unbalanced square brackets without quotes")
            seen, is_open = True, not is_open
        if is_open and kind != "word":
            break
    if is_open:
        raise AuthorError("unbalanced square brackets without quotes")
    return seen


def _in_comment(comment: str, mailbox: Mailbox) -> str | None:
    """The text of a comment. RFC 2047 §5 (2) allows encoded words in it."""
    return _shown(comment[1:-1].split(), mailbox)


def _shown(pieces: list[str], mailbox: Mailbox) -> str | None:
    try:
        return display_name(pieces, mailbox)
    except DisplayNameError as error:
        raise AuthorError(f"display name: {error}") from None


def _is_spelling_of(text: str, mailbox: Mailbox) -> bool:
    try:
        return len(text) <= _MAX_ADDRESS and parse_mailbox(text) == mailbox
    except AddressError:
        return False
