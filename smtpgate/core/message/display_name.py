"""Display names as people see them: unquoted, and decoded from RFC 2047 encoded words.

Policies compare what a mail program shows. So an encoded word is decoded wherever programs
decode it, which is more places than RFC 2047 §5 allows, and where some would and some would
not the name is refused. It is also refused when it has invisible characters.

Many mail programs show the name and not the address, and some read the name again as if it were
a mailbox. So a name with an angle bracket is refused, and one that shows another address than
the mailbox's.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from smtpgate.core.address import AddressError, Mailbox, parse_domain, shown_path
from smtpgate.core.message.charsets import codec_of

_MAX_CHARACTERS: Final = 1000
_ENCODED_WORD: Final = re.compile(
    r"=\?([A-Za-z0-9_.:+-]{1,50})(?:\*[A-Za-z0-9-]{1,20})?\?([QqBb])\?([!->@-~]*)\?="
)
_Q_OCTET: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
# Categories of what is not seen, or changes how the rest is seen (as the bidirectional
# controls do); the two joiners shape Persian and Indic words and many emoji.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS: Final = frozenset("\u200c\u200d")
# A dot of Asian scripts that names of domains are written with (RFC 3490 §3.1); NFKC makes the
# full-width one, and the full-width at sign, their ASCII counterparts.
_DOTS: Final = str.maketrans("\u3002", ".")
# Characters of next to no width: the joiners and the narrow spaces.
_NARROW: Final = str.maketrans("", "", "\u200c\u200d\u2006\u2008\u2009\u200a\u202f\u205f")
# Characters that end a word that might be an address.
_AT_SIGNS: Final = frozenset("@\ufe6b\uff20")
_BETWEEN: Final = re.compile(r"[\s()<>\[\]:;,\"\\]+")
_LITERAL: Final = re.compile(
    r"@(\[(?:IPv6:[0-9A-F:.]{2,45}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})\])", re.IGNORECASE
)
# A program that reads the name again takes these out beside an at sign: quotes, comments.
_COMMENT: Final = re.compile(r"\([^()]*\)")
_MARKED_AT: Final = re.compile(r'["\\\[\]]*@["\\\[\]@]*')
_SPACED_AT: Final = re.compile(r'[\s"\\\[\]]*@[\s"\\\[\]@]*')
_SPACED_DOT: Final = re.compile(r"\s+\.\s*")
_DOT_IN_ADDRESS: Final = re.compile(r"(\S@\S*)\.\s+")
# Marks that people put around an address.
_AROUND: Final = ".'`*_|/~!?-–—“”‘’«»…"
_MAX_ADDRESSES: Final = 2  # the mailbox's own; to read a domain takes time
_MAX_SHOWN: Final = 100
_MAX_DOMAIN: Final = 253  # RFC 1035 §2.3.4


class DisplayNameError(ValueError):
    """A display name that programs would show differently, or not fully."""


@dataclass(slots=True)
class _Run:
    """Neighbouring encoded words of one character set.

    They are decoded together, because some programs cut a character in two between them.
    """

    codec: str
    octets: bytearray


def display_name(pieces: Iterable[str], mailbox: Mailbox) -> str | None:
    """The name that atoms and quoted strings make for a mailbox; ``None`` when they make none.

    Raises DisplayNameError.
    """
    pieces = tuple(pieces)
    name = decoded(pieces)
    if "<" in name or ">" in name:
        raise DisplayNameError("an angle bracket, which belongs around addresses only")
    shown = name
    if not name.isascii() and not _AT_SIGNS.isdisjoint(name):
        shown = unicodedata.normalize("NFKC", name.translate(_NARROW)).translate(_DOTS)
        if len(shown) > _MAX_CHARACTERS:
            raise DisplayNameError(f"longer than {_MAX_CHARACTERS} characters")
    if "@" in shown:
        _check_literals(shown, mailbox)
        _check_addresses(shown, mailbox)
        _check_addresses(_MARKED_AT.sub("@", _COMMENT.sub("", shown)), mailbox)
        if any("=?" in piece for piece in pieces):
            _check_domains(_without_spaces(shown), mailbox)
    return name.strip() or None


def decoded(pieces: Iterable[str]) -> str:
    """The text that atoms, quoted strings and encoded words make.

    An empty piece stands for a comment, which is left out. Raises DisplayNameError.
    """
    parts: list[str | _Run] = []
    for word in _words(pieces):
        match = _ENCODED_WORD.fullmatch(word)
        last = parts[-1] if parts else None
        if match is None:
            parts.append(word)
        elif isinstance(last, _Run) and last.codec == _codec(match[1]):
            last.octets += _octets(match[2], match[3])
        else:
            parts.append(_Run(_codec(match[1]), bytearray(_octets(match[2], match[3]))))
    name = _joined(parts)
    if len(name) > _MAX_CHARACTERS:
        raise DisplayNameError(f"longer than {_MAX_CHARACTERS} characters")
    if "=?" in name:
        raise DisplayNameError("an encoded word that cannot be read")
    return name if name.isascii() and name.isprintable() else _visible(name)


def _check_addresses(name: str, mailbox: Mailbox) -> None:
    """Refuse a name that shows an address, other than the one it is the name of.

    ``Team @ Example`` and ``@example`` show none.
    """
    shown = 0
    for word in _BETWEEN.split(name):
        if "@" not in word or "." not in word:
            continue
        for local_part, domain in pairwise(word.split("@")):
            local_part, domain = local_part.strip("."), domain.strip(_AROUND)  # noqa: PLW2901
            if not local_part.strip(_AROUND) or not _is_domain(domain):
                continue
            shown += 1
            if shown > _MAX_ADDRESSES:
                raise DisplayNameError("it shows its address too often")
            if not _is_mailbox(local_part, domain, mailbox):
                raise _another_address(f"{local_part}@{domain}")


def _another_address(found: str) -> DisplayNameError:
    return DisplayNameError(f"it shows another address: {shown_path(found[:_MAX_SHOWN])}")


def _check_literals(name: str, mailbox: Mailbox) -> None:
    """Refuse a name that shows another address at an address literal (RFC 5321 §4.1.3)."""
    for match in _LITERAL.finditer(name):
        local_part = _BETWEEN.split(name[: match.start()])[-1]
        if local_part.strip(_AROUND) and not _is_mailbox(local_part, match[1], mailbox):
            raise _another_address(f"{local_part}@{match[1]}")


def _check_domains(name: str, mailbox: Mailbox) -> None:
    """Refuse a name, without spaces around its at signs, with another domain in it.

    A program that decodes a name and reads it again finds ``a @ b.example`` without quotes, and
    takes it for an address. In ``Team @ Example`` it finds no domain of the Internet.
    """
    for word in _BETWEEN.split(name):
        local_part, _, text = word.rpartition("@")
        domain = _spelled(text.strip(_AROUND))
        if not local_part.strip(_AROUND) or not _is_domain(domain):
            continue
        if not f".{domain}".endswith(f".{mailbox.domain}") and not (
            f".{mailbox.domain}".endswith(f".{domain}")
        ):
            raise _another_address(word)


def _without_spaces(name: str) -> str:
    """A name without what such a program skips around at signs and full stops."""
    tight = _SPACED_DOT.sub(".", _COMMENT.sub("", name))
    return _SPACED_AT.sub("@", _DOT_IN_ADDRESS.sub(r"\1.", tight))


def _spelled(domain: str) -> str:
    """A domain as mailboxes have it, or the text as it is."""
    try:
        return parse_domain(domain) if len(domain) <= _MAX_DOMAIN else domain
    except AddressError:
        return domain


def _is_domain(text: str) -> bool:
    """True if it is as domains of the Internet are: with a dot, the last label no number.

    So neither ``Dev@Scale`` nor ``lodash@4.17.21`` ends in one.
    """
    labels = [label for label in text.split(".") if label]
    return len(labels) > 1 and not labels[-1].isdigit()


def _is_mailbox(local_part: str, domain: str, mailbox: Mailbox) -> bool:
    wanted = mailbox.local_part.casefold()
    if wanted not in (local_part.casefold(), local_part.strip(_AROUND).casefold()):
        return False
    try:
        return len(domain) <= _MAX_DOMAIN and parse_domain(domain) == mailbox.domain
    except AddressError:
        return False


def _words(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        if not piece.startswith('"'):
            yield piece
            continue
        content = _QUOTED_PAIR.sub(r"\1", piece[1:-1].replace("\t", " "))
        # RFC 2047 §5 (3) has no encoded words in quoted strings; mail programs do.
        yield from content.split() if "=?" in content else (content,)


def _joined(parts: list[str | _Run]) -> str:
    name, was_encoded = "", False
    for part in parts:
        if part:
            # RFC 2047 §6.2: white space between two encoded words is not shown.
            is_glued = was_encoded and isinstance(part, _Run)
            name += " " if name and not is_glued else ""
            name += part if isinstance(part, str) else _decoded(part)
        was_encoded = isinstance(part, _Run)
    return name


def _visible(name: str) -> str:
    """The name in normalization form C; refused when part of it is not seen."""
    for character in name:
        if unicodedata.category(character) in _INVISIBLE and character not in _JOINERS:
            raise DisplayNameError("an invisible or control character")
    return unicodedata.normalize("NFC", name)


def _codec(charset: str) -> str:
    codec = codec_of(charset)
    if codec is None:
        raise DisplayNameError(f"the character set '{charset}' is not known")
    return codec


def _octets(encoding: str, text: str) -> bytes:
    """The text of an encoded word (RFC 2047 §4)."""
    octets = text.encode("ascii")
    if encoding in "Qq":
        octets = octets.replace(b"_", b" ")
        return _Q_OCTET.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), octets)
    try:
        return base64.b64decode(octets + b"=" * (-len(octets) % 4), validate=True)
    except binascii.Error:
        raise DisplayNameError("an encoded word is not base64") from None


def _decoded(run: _Run) -> str:
    try:
        return run.octets.decode(run.codec)
    except UnicodeDecodeError:
        raise DisplayNameError("an encoded word is not of its character set") from None
