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

# Without its LF. No line has another; to look for one more octet takes Python twice as long.
_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r]*))?\r")
_ODD: Final = re.compile(r"[^\x20-\x7e]+")
# RFC 2034 §4: the enhanced code stands at the beginning of the text of each line.
_ENHANCED: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|\Z)")
# Where a reply has none; RFC 2034 §3 requires none of 3yz.
_ENHANCED_OF: Final = {2: "2.0.0", 3: "", 4: "4.0.0", 5: "5.0.0"}
# RFC 5321 §4.1.1.1: ehlo-line = ehlo-keyword *( SP ehlo-param )
_EHLO_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?: +(.*))?")


class _NoReplyError(Exception):
    """Octets that are no reply."""


class Answer(Struct, frozen=True, gc=False):
    """A reply: the code and the text of each line as they came, and what these amount to.

    ``kind`` is the first digit of the code.
    """

    code: int
    kind: int
    lines: tuple[str, ...]
    reply: Reply


class ReplyReader:
    """Cuts what a server sends into replies, however it is split on its way.

    ``has_rest`` is true if octets are left that are no whole reply. Octets that cannot become a
    reply are a ``problem``; after it nothing more is to be read.
    """

    def __init__(self) -> None:
        self.has_rest = False
        self.problem = ""
        self._rest = b""  # of a line that has not ended
        self._code = b""
        self._lines: list[str] = []
        self._octets = 0

    def read(self, octets: bytes, due: int = 1) -> Sequence[Answer]:
        """Take in what was received, and return the replies that are whole now.

        So many are ``due``; if several are, most messages get the same ones, so they are kept.
        Of many others only the first are read: they are an error already, and to read all
        takes long.
        """
        if not self.has_rest and len(octets) < _MAX_LINE_OCTETS:
            answers = _usual_lines(octets) if due > 1 else _single_lines(octets)
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
        code, separator, text = line.groups(b"")
        if self._lines and code != self._code:  # RFC 5321 §4.2.1
            raise _NoReplyError(
                f"the lines of a reply differ: {_shown(self._code + b', ' + code)}"
            )
        self._code = code
        self._lines.append(_printable(text))
        self._octets += len(octets) + 1
        if len(self._lines) > _MAX_LINES or self._octets > _MAX_REPLY_OCTETS:
            raise _NoReplyError("a reply is too long")
        return self._whole() if separator != b"-" else None

    def _whole(self) -> Answer:
        answer = _answer(int(self._code), tuple(self._lines))
        self._code, self._lines, self._octets = b"", [], 0
        return answer


def _single_lines(octets: bytes) -> Sequence[Answer] | None:
    """The replies in octets that are whole replies of one line each; ``None`` of others."""
    *lines, rest = octets.split(b"\n")
    if rest:
        return None
    answers = []
    for octets_of_line in lines:
        line = _LINE.fullmatch(octets_of_line)
        if line is None or line[2] == b"-":
            return None
        answers.append(_answer(int(line[1]), (_printable(line[3] or b""),)))
    return tuple(answers)


_usual_lines: Final = lru_cache(maxsize=128)(_single_lines)


def _printable(octets: bytes) -> str:
    text = octets.decode("latin-1")
    return text if text.isascii() and text.isprintable() else _ODD.sub("?", text)


def _shown(octets: bytes) -> str:
    """Octets of a server as an error message can show them."""
    return ascii(octets[:80].decode("latin-1"))


def _answer(code: int, lines: tuple[str, ...]) -> Answer:
    """An answer, as a reply whose two codes agree, with all its text on one line."""
    kind = code // 100
    enhanced = _ENHANCED_OF[kind]
    texts: list[str] = []
    for line in lines:
        found = _ENHANCED.match(line)
        # An enhanced code of another class than the basic one is only text (RFC 2034 §4).
        if found is not None and enhanced and line[0] == enhanced[0]:
            enhanced = found[1] if not texts else enhanced
            line = line[found.end() :]  # noqa: PLW2901 - the code is off, the text is left
        texts.append(line.strip())
    text = texts[0] if len(texts) == 1 else " ".join(filter(None, texts))
    if len(text) > _MAX_TEXT:
        text = text[: _MAX_TEXT - 3] + "..."
    return Answer(code, kind, lines, Reply(code, enhanced, text))


def extensions_of(lines: Sequence[str]) -> dict[str, str]:
    """The extensions of an EHLO reply: keywords in upper case, with their parameters."""
    offered = {}
    for line in lines[1:]:  # the first line greets
        found = _EHLO_LINE.fullmatch(line.rstrip())
        if found is not None:
            offered[found[1].upper()] = (found[2] or "").upper()
    return offered
