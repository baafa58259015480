"""Replies of a server: octets in, whole replies out, and nothing that could be two things.

The grammar (RFC 5321 §4.2, with §4.2.1 for several lines)::

    Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF

Strict in what separates replies, because a reply misread as two puts every later one against
the wrong command: lines end with CRLF, the lines of one reply have one code. Lenient in what
is only shown: octets that do not print become ``?``, and a missing enhanced code is supplied.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct

from smtpgate.core.reply import Reply

# RFC 5321 §4.5.3.1.5 says 512 octets a line; servers that quote a refused address or a URL go
# beyond it. The other two bound what one reply can cost: EHLO of the largest servers has some
# 25 lines.
_MAX_LINE_OCTETS: Final = 2048
_MAX_REPLY_OCTETS: Final = 16 * 1024
_MAX_LINES: Final = 128
_LONG_LINE: Final = f"a reply line is longer than {_MAX_LINE_OCTETS} octets"
_MAX_TEXT: Final = 1000
# A reply may itself cause a command, RSET, whose reply came too early. The next is too many.
_MAX_SURPLUS: Final = 2

# A line without its LF: code, first digit, separator, text, enhanced code. RFC 2034 §4: that
# one stands at the beginning of the text of each line. One of another class than the basic code
# is only text, and §3 requires none of 3yz. No line has another CR; to look for one more octet
# takes Python twice as long.
_LINE: Final = re.compile(
    rb"(([2-5])[0-9][0-9])"
    rb"(?:([ -])((?:(?!3)(\2\.[0-9]{1,3}\.[0-9]{1,3})(?=[ \r]))?[^\r]*))?\r"
)
_Line = re.Match[bytes]
_ODD: Final = re.compile(r"[^\x20-\x7e]+")
# The enhanced code of a reply that has none.
_DEFAULT: Final = {b"2": "2.0.0", b"3": "", b"4": "4.0.0", b"5": "5.0.0"}
# RFC 5321 §4.1.1.1: ehlo-line = ehlo-keyword *( SP ehlo-param )
_EHLO_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?: +(.*))?")


class _NoReplyError(Exception):
    """Octets that are no reply."""


class Answer(Struct, frozen=True, gc=False):
    """A reply as it came.

    ``kind`` is the first digit of its code; of 421 it is that code, which may come at any time.
    ``more`` is the text of the lines behind the first.
    """

    kind: int
    reply: Reply
    more: tuple[str, ...] = ()


class ReplyReader:
    """Cuts what a server sends into replies, however it is split on its way.

    ``has_rest`` is true if octets are left that are no whole reply. Octets that cannot become a
    reply are a ``problem``; after it nothing more is to be read.
    """

    def __init__(self) -> None:
        self.has_rest = False
        self.problem = ""
        self._rest = b""  # of a line that has not ended
        self._lines: list[_Line] = []
        self._octets = 0

    def read(self, octets: bytes, due: int = 1) -> Sequence[Answer]:
        """Take in what was received, and return the replies that are whole now.

        So many are ``due``; if several are, most messages get the same ones, so they are kept.
        Of many others only the first are read: they are an error already, and to read all
        takes long.
        """
        if not self.has_rest and len(octets) < _MAX_LINE_OCTETS:
            answers = _usual_lines(octets) if due > 1 else _one_line(octets)
            if answers is not None:
                return answers
        *lines, self._rest = (self._rest + octets).split(b"\n")
        answers = []
        try:
            for line in lines:
                if (answer := self._add(line)) is not None:
                    answers.append(answer)
                    if len(answers) == due + _MAX_SURPLUS:
                        break
        except _NoReplyError as error:
            self.problem = str(error)
        else:
            self.problem = _LONG_LINE if len(self._rest) > _MAX_LINE_OCTETS else ""
        self.has_rest = bool(self._rest or self._lines or self.problem)
        return answers

    def _add(self, octets: bytes) -> Answer | None:
        """Note one line; the reply, if that was its last. Raises _NoReplyError."""
        if len(octets) >= _MAX_LINE_OCTETS:
            raise _NoReplyError(_LONG_LINE)
        line = _LINE.fullmatch(octets)
        if line is None:
            shown = _shown(octets + b"\n")
            raise _NoReplyError(f"no reply line: {shown}")
        lines = self._lines
        lines.append(line)
        if line[1] != lines[0][1]:  # RFC 5321 §4.2.1
            codes = lines[0][1] + b", " + line[1]
            raise _NoReplyError(f"the lines of a reply differ: {_shown(codes)}")
        self._octets += len(octets) + 1
        if len(lines) > _MAX_LINES or self._octets > _MAX_REPLY_OCTETS:
            raise _NoReplyError("a reply is too long")
        if line[3] == b"-":
            return None
        self._lines, self._octets = [], 0
        return _answer(lines)


def _one_line(octets: bytes) -> Sequence[Answer] | None:
    """As ``_single_lines``; mostly there is one, with both codes and a text that prints."""
    words = octets.split(b" ", 2)
    if len(words) == 3 and octets[-2:] == b"\r\n":
        codes, text = _codes_in(words[0], words[1]), words[2][:-2].decode("latin-1")
        if codes is not None and text.isascii() and text.isprintable():
            return (_answer_of(*codes, text.strip()),)
    return _single_lines(octets)


@lru_cache(maxsize=128)
def _codes_in(code: bytes, enhanced: bytes) -> tuple[int, str] | None:
    """The codes of a reply line that begins so; ``None`` if these are not both."""
    line = _LINE.fullmatch(b"%b %b\r" % (code, enhanced))
    if line is None or line.group(1, 5) != (code, enhanced):
        return None
    return int(code), enhanced.decode()


def _single_lines(octets: bytes) -> Sequence[Answer] | None:
    """The replies in octets that are whole replies of one line each; ``None`` of others."""
    *lines, rest = octets.split(b"\n")
    if rest:
        return None
    answers = []
    for octets_of_line in lines:
        line = _LINE.fullmatch(octets_of_line)
        if line is None or line[3] == b"-":
            return None
        answers.append(_answer((line,)))
    return tuple(answers)


_usual_lines: Final = lru_cache(maxsize=128)(_single_lines)


def _printable(octets: bytes) -> str:
    text = octets.decode("latin-1")
    return text if text.isascii() and text.isprintable() else _ODD.sub("?", text)


def _shown(octets: bytes) -> str:
    """Octets of a server as an error message can show them."""
    return ascii(octets[:80].decode("latin-1"))


def _answer(lines: Sequence[_Line]) -> Answer:
    """The answer of these lines: a reply with two codes of one class, all text on one line."""
    code, kind, *_, enhanced = lines[0].groups(b"")
    shown = [_printable(line[4] or b"") for line in lines]
    texts = [one[len(line[5] or b"") :] for one, line in zip(shown, lines, strict=True)]
    text = " ".join(filter(None, map(str.strip, texts)))
    return _answer_of(int(code), enhanced.decode() or _DEFAULT[kind], text, tuple(shown[1:]))


def _answer_of(code: int, enhanced: str, text: str, more: tuple[str, ...] = ()) -> Answer:
    if len(text) > _MAX_TEXT:
        text = text[: _MAX_TEXT - 3] + "..."
    kind = code if code == 421 else code // 100  # RFC 5321 §3.8
    return Answer(kind, Reply(code, enhanced, text), more)


def extensions_of(lines: Sequence[str]) -> dict[str, str]:
    """The extensions in the lines of an EHLO reply that follow the first, which greets.

    They are keywords in upper case, with their parameters.
    """
    offered = {}
    for line in lines:
        found = _EHLO_LINE.fullmatch(line.rstrip())
        if found is not None:
            offered[found[1].upper()] = (found[2] or "").upper()
    return offered
