"""An SMTP session read from its description a second time: one pass over all octets at once.

It shares no code with ``smtpgate.smtp``, knows nothing of buffers, turns and files, and has the
whole input before it. It is of a listener without TLS, whose client may go on without the
replies, and whose errors end no session.
"""

import re
from dataclasses import dataclass, field

MAILS = {
    b"FROM:<marketing@ses-example.com>": "250",
    b"FROM:<>": "250",
    b"from: a@example.com size=10": "250",
    b"FROM:<a@example.com> SIZE=99999999999": "552",
    b"FROM:<a@example.com> BODY=8BITMIME": "8bit",
    b"FROM:<a@example.com> BODY=BINARYMIME": "501",
    b"FROM:<a@example.com> HOLDFOR=1": "555",
    b"FROM:<no-at-sign>": "553",
}
RCPTS = {
    b"TO:<jane@example.net>": "250",
    b"TO:<joe@example.net>": "250",
    b"TO:<jim@example.net>": "250",
    b"TO:<>": "553",
    b"TO:<jane@example.net> XYZZY=1": "555",
}
_PLAIN_REPLIES = {b"NOOP": "250", b"VRFY": "252", b"HELP": "214"}
_VERB = re.compile(rb"([A-Za-z]{1,20})(?:[ \t]+(.*))?", re.DOTALL)
_CHUNK = re.compile(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)


class NotInTheTableError(Exception):
    """The oracle does not know the answer to such a command."""


class _EndError(Exception):
    """The input or the session is over."""


@dataclass
class NaiveSession:
    """``codes`` are the replies to ``octets``, with the greeting; ``messages`` are accepted."""

    octets: bytes
    login: bytes
    max_octets: int
    max_recipients: int
    codes: list[str] = field(default_factory=lambda: ["220"])
    messages: list[bytes] = field(default_factory=list)
    place: int = 0
    is_esmtp: bool = False
    is_inside_line: bool = False
    has_login: bool = False
    has_mail: bool = False
    recipients: set[bytes] = field(default_factory=set)
    chunks: bytes | None = None

    def run(self) -> "NaiveSession":
        """Read all of it. Raises NotInTheTableError."""
        try:
            while True:
                self.codes.append(self._answer(self._line()))
        except _EndError:
            return self

    def _take(self, size: int) -> bytes:
        if len(self.octets) - self.place < size:
            raise _EndError
        self.place += size
        return self.octets[self.place - size : self.place]

    def _line(self) -> bytes | None:
        end = self.octets.find(b"\n", self.place)
        if end < 0:
            raise _EndError
        line = self._take(end + 1 - self.place)
        is_good = line.endswith(b"\r\n") and b"\r" not in line[:-2] and b"\0" not in line
        if is_good and not self.is_inside_line:
            return line[:-2]
        self.is_inside_line = not line.endswith(b"\r\n")
        return None

    def _reset(self) -> None:
        self.has_mail, self.recipients, self.chunks = False, set(), None

    def _answer(self, line: bytes | None) -> str:
        match = _VERB.fullmatch(line) if line is not None else None
        if match is None:
            return "500"
        verb, argument = match[1].upper(), (match[2] or b"").strip(b" \t")
        if verb == b"QUIT":
            self.codes.append("221")
            raise _EndError
        if verb in _PLAIN_REPLIES:
            return _PLAIN_REPLIES[verb]
        if verb in (b"EXPN", b"ETRN", b"TURN"):
            return "502"
        known = {
            b"EHLO": self._hello,
            b"HELO": self._hello,
            b"STARTTLS": lambda _, given: "501" if given else "454",
            b"AUTH": self._auth,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"BDAT": self._bdat,
            b"RSET": self._rset,
        }.get(verb)
        return "500" if known is None else known(verb, argument)

    def _hello(self, verb: bytes, argument: bytes) -> str:
        name = argument.split(b" ")[0]
        if not name or len(name) > 255 or any(octet < 32 or octet == 127 for octet in name):
            return "501"
        self._reset()
        self.is_esmtp = verb == b"EHLO"
        return "250"

    def _rset(self, _: bytes, __: bytes) -> str:
        self._reset()
        return "250"

    def _auth(self, _: bytes, argument: bytes) -> str:
        if not self.is_esmtp or self.has_login or self.has_mail:
            return "503"
        if argument != self.login:
            raise NotInTheTableError
        self.has_login = True
        return "235"

    def _mail(self, _: bytes, argument: bytes) -> str:
        if not self.has_login:
            return "530"
        if self.has_mail:
            return "503"
        if argument not in MAILS:
            raise NotInTheTableError
        code = MAILS[argument]
        if code == "8bit":
            code = "250" if self.is_esmtp else "555"
        self.has_mail = code == "250"
        return code

    def _rcpt(self, _: bytes, argument: bytes) -> str:
        if not self.has_mail or self.chunks is not None:
            return "503"
        if argument not in RCPTS:
            raise NotInTheTableError
        code = RCPTS[argument]
        if code == "250" and argument not in self.recipients:
            if len(self.recipients) >= self.max_recipients:
                return "452"
            self.recipients.add(argument)
        return code

    def _data(self, _: bytes, argument: bytes) -> str:
        if argument:
            return "501"
        if not self.recipients:
            return "503"
        if self.chunks is not None:
            self._reset()
            return "503"
        self.codes.append("354")
        if self.octets.startswith(b".\r\n", self.place):
            wire = self._take(0)
        else:
            end = self.octets.find(b"\r\n.\r\n", self.place)
            if end < 0:
                raise _EndError
            wire = self._take(end + 2 - self.place)
        self._take(3)
        lines = wire.split(b"\r\n")
        message = b"\r\n".join(one[1:] if one.startswith(b".") else one for one in lines)
        return self._deliver(message, len(wire))

    def _bdat(self, _: bytes, argument: bytes) -> str:
        match = _CHUNK.fullmatch(argument)
        if match is None:
            self.codes.append("501")
            raise _EndError
        chunk, before = self._take(int(match[1])), self.chunks or b""
        if not self.is_esmtp or not self.recipients:
            return "503"
        if len(before) + len(chunk) > self.max_octets:
            self._reset()
            return "552"
        self.chunks = before + chunk
        return "250" if match[2] is None else self._deliver(self.chunks, len(self.chunks))

    def _deliver(self, message: bytes, octets: int) -> str:
        self._reset()
        if octets > self.max_octets:
            return "552"
        self.messages.append(message)
        return "250"
