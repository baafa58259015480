"""Display names as people see them: unquoted, and decoded from RFC 2047 encoded words.

Policies compare what a mail program shows. So an encoded word is decoded wherever programs
decode it, which is more places than RFC 2047 §5 allows, and where some would and some would
not the name is refused. It is also refused when it holds what nobody sees.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["DisplayNameError", "display_name"]

_MAX_CHARACTERS: Final = 1000
_ENCODED_WORD: Final = re.compile(
    r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,20})?\?([QqBb])\?([!->@-~]*)\?="
)
_Q_OCTET: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
# Categories of what is not seen, or changes how the rest is seen (as the bidirectional
# controls do); the two joiners shape Persian and Indic words and many emoji.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS: Final = frozenset("\u200c\u200d")

# The character sets that mail programs write, with Python's name for what they mean by it:
# ISO-8859-1 is read as its superset windows-1252 and GB2312 as GB18030 the world over. UTF-7 is
# not among them: it spells one text in many ways.
_CHARSETS: Final = {
    "us-ascii": "ascii",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "iso-8859-1": "cp1252",
    **{f"iso-8859-{n}": f"iso8859-{n}" for n in (*range(2, 12), 13, 14, 15, 16)},
    **{f"windows-{n}": f"cp{n}" for n in range(1250, 1259)},
    "cp1252": "cp1252",
    "windows-874": "cp874",
    "tis-620": "tis-620",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5",
    "shift_jis": "cp932",
    "euc-jp": "euc-jp",
    "iso-2022-jp": "iso2022_jp",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
}


class DisplayNameError(ValueError):
    """A display name that programs would show differently, or not fully."""


@dataclass(slots=True)
class _Run:
    """Neighbouring encoded words of one character set.

    They are decoded together, because some programs cut a character in two between them.
    """

    codec: str
    octets: bytearray


def display_name(pieces: Iterable[str]) -> str | None:
    """The name that atoms and quoted strings make; ``None`` when they make none.

    Raises DisplayNameError.
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
    if not name.isascii() or not name.isprintable():
        name = _visible(name)
    return name.strip() or None


def _words(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        if not piece.startswith('"'):
            yield piece
            continue
        content = _QUOTED_PAIR.sub(r"\1", piece[1:-1].replace("\t", " "))
        # RFC 2047 §5 (3) has no encoded words in quoted strings; mail programs do.
        yield from content.split() if "=?" in content else (content,)


def _joined(parts: list[str | _Run]) -> str:
    name, previous = "", None
    for part in parts:
        # RFC 2047 §6.2: white space between two encoded words is not shown.
        is_glued = isinstance(previous, _Run) and isinstance(part, _Run)
        name += " " if name and not is_glued else ""
        name += part if isinstance(part, str) else _decoded(part)
        previous = part
    return name


def _visible(name: str) -> str:
    """The name in normalization form C; refused when part of it is not seen."""
    for character in name:
        if unicodedata.category(character) in _INVISIBLE and character not in _JOINERS:
            raise DisplayNameError("an invisible or control character")
    return unicodedata.normalize("NFC", name)


def _codec(charset: str) -> str:
    try:
        return _CHARSETS[charset.lower()]
    except KeyError:
        raise DisplayNameError(f"the character set '{charset}' is not known") from None


def _octets(encoding: str, text: str) -> bytes:
    """What an encoded word stands for (RFC 2047 §4)."""
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
