"""The address fields that decide nothing: is there an address in them without its domain?

A mail server behind the gate that takes it for one of its own completes such an address with
its own domain, and so breaks the signature. Amazon SES refuses it, and so do we. Whatever else
may be odd in these fields is left alone: no decision depends on them, and mail programs write
many things there. From and Sender are read strictly elsewhere.
"""

import re
from functools import lru_cache
from typing import Final

from smtpgate.core.message.headers import HeaderBlock

_FIELDS: Final = frozenset(
    {
        b"to",
        b"cc",
        b"bcc",
        b"reply-to",
        b"resent-to",
        b"resent-cc",
        b"resent-bcc",
        b"resent-from",
        b"resent-sender",
        b"resent-reply-to",
    }
)
_SHOWN_OCTETS: Final = 40
_MAX_CACHED: Final = 200

# What nearly all fields look like, with their folds; the rest is read piece by piece.
_ATOMS: Final = rb'[^ \t\n\r\f\v"(),:;<>@\\\[\]]++'
_ADDRESS: Final = rb"%b@%b" % (_ATOMS, _ATOMS)
_NAME: Final = rb'(?:"[^"\\]*+"|[^"(),:;<>@\\\[]*+)[ \t\r\n]*+'
_ITEM: Final = rb"(?:%b<%b>|%b)[ \t\r\n]*+" % (_NAME, _ADDRESS, _ADDRESS)
_PLAIN: Final = re.compile(rb"[ \t\r\n,]*+(?:%b(?:,[ \t\r\n,]*+|\Z))*+" % _ITEM)

# An encoded word is one piece whatever is in it: some software writes a comma there. Marks
# that end something are one piece with those behind them: there is nothing between them.
_PIECE: Final = re.compile(
    rb"[ \t\r\n]++"
    rb"|=\?[^? \t]++\?[BbQq]\?[^? \t]*+\?="
    rb'|[^ \t\r\n"(),:;<>\[\\]++|\\.'
    rb"|[,;:](?:[ \t\r\n]*+[,;:])*+"
    rb'|"(?:[^"\\]|\\.)*+"'
    rb"|\[[^\[\]]*+\]"
    rb"|.",
    re.DOTALL,
)


def unqualified_address(block: HeaderBlock) -> tuple[str, str] | None:
    """The first address without a domain: the name of its field, and how it begins."""
    for field in block.fields:
        if field.name in _FIELDS and not _is_plain(field.raw):
            found = _unqualified(field.value)
            if found is not None:
                shown = found[:_SHOWN_OCTETS].decode("ascii", "backslashreplace")
                return field.name.decode("ascii").title(), shown
    return None


def _is_plain(raw: bytes) -> bool:
    # Most senders write the same Reply-To or Cc in each message, and some the same To.
    look = _has_plain_value_again if len(raw) <= _MAX_CACHED else _has_plain_value
    return look(raw)


def _has_plain_value(raw: bytes) -> bool:
    return _PLAIN.fullmatch(raw, raw.index(b":") + 1) is not None


_has_plain_value_again = lru_cache(maxsize=256)(_has_plain_value)


def _unqualified(value: bytes) -> bytes | None:
    item, depth = _Item(), 0
    for match in _PIECE.finditer(value):
        piece = match[0]
        if piece == b'"':
            return None  # a quote that does not end: what is quoted is not known
        if piece in (b"(", b")"):  # comments may hold others
            depth = depth + 1 if piece == b"(" else max(depth - 1, 0)
        elif depth:
            continue
        elif piece[:1] in (b",", b";") and not item.is_open:
            if item.is_unqualified:
                return item.address
            item = _Item()
        elif piece[:1] == b":" and not item.is_open:
            item = _Item()  # it was the name of a group
        else:
            item.add(piece)
    return item.address if item.is_unqualified else None


class _Item:
    """One place of the list: what is in angle brackets, or all of it when nothing is."""

    __slots__ = ("_has_brackets", "_text", "is_open")

    def __init__(self) -> None:
        self.is_open = self._has_brackets = False
        self._text = bytearray()

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        if piece == b"<" and not self.is_open:
            self.is_open = self._has_brackets = True
            self._text.clear()
        elif piece == b">":
            self.is_open = False
        elif self.is_open or not self._has_brackets:
            self._text += b'""' if piece[:1] == b'"' else piece  # an @ in quotes is none

    @property
    def address(self) -> bytes:
        """The address, without brackets."""
        return bytes(self._text).strip(b" \t\r\n")

    @property
    def is_unqualified(self) -> bool:
        """True if there is an address, and no domain at its end."""
        address = self.address
        if not address or address.endswith(b";"):  # no mailbox, or a group within the brackets
            return False
        return b"@" not in address or address.endswith(b"@")
