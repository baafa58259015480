"""Lines of SMTP as a person may see them: without secrets, bodies and control characters.

A command is shown with its argument only if it can be nothing else. The response to a
challenge of AUTH and whatever is no command are shown as a number of octets, because a client
that goes on behind a refused AUTH or DATA sends credentials or a body where commands are
expected.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

Side = Literal["client", "upstream"]
Kind = Literal["command", "reply", "note"]

_MOST_SHOWN: Final = 500
_MASK: Final = "***"
_ADDRESSED: Final = re.compile(rb"(?:MAIL[ \t]+FROM|RCPT[ \t]+TO):[ \t]*<", re.IGNORECASE)
_CHUNK: Final = re.compile(rb"BDAT[ \t]+[0-9]{1,20}(?:[ \t]+LAST)?[ \t]*", re.IGNORECASE)
_GREETING: Final = re.compile(rb"(?:EHLO|HELO)[ \t]+[^ \t]+[ \t]*", re.IGNORECASE)
_BARE: Final = re.compile(
    rb"(?:STARTTLS|DATA|RSET|NOOP|QUIT|VRFY|EXPN|HELP|ETRN|TURN|EHLO|HELO|MAIL|RCPT|BDAT)"
    rb"(?=[ \t]|\Z)",
    re.IGNORECASE,
)
_LOGIN: Final = re.compile(rb"AUTH(?:[ \t]+([^ \t]*)[ \t]*(.*))?", re.IGNORECASE | re.DOTALL)
_REFUSAL_CODES: Final = re.compile(
    rb"[45][0-9]{2}[ -]?(?:[45]\.[0-9]{1,3}\.[0-9]{1,3}(?: |\Z))?"
)
_MECHANISMS: Final = frozenset(
    b"PLAIN LOGIN XOAUTH2 OAUTHBEARER EXTERNAL ANONYMOUS CRAM-MD5 DIGEST-MD5 NTLM GSSAPI "
    b"SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS".split()
)


class TranscriptLine(Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of a transcript.

    ``at`` is in ISO 8601, UTC. ``upstream`` is the name of the upstream on that side. A note is
    what the gate says of the connection.
    """

    at: str
    session: str
    side: Side
    kind: Kind
    text: str
    upstream: str = ""


class TranscriptPart(Struct, frozen=True, gc=False, omit_defaults=True):
    """Some lines; after them so many were dropped because they were not read fast enough."""

    lines: tuple[TranscriptLine, ...] = ()
    dropped: int = 0
    sessions: int = 0  # open ones that the first part of an answer is about


class SessionFacts(Struct, frozen=True, gc=False):
    """The facts of a session by which it may be chosen; what is not known is empty.

    ``is_open``: the account and the key may become known.
    """

    session: str
    address: str
    account: str = ""
    key: str = ""
    is_open: bool = True


class TraceTarget(Struct, frozen=True, gc=False):
    """The sessions of which a transcript is wanted; what is empty chooses none."""

    account: str = ""
    key: str = ""
    network: str = ""
    session: str = ""

    def includes(self, facts: SessionFacts) -> bool | None:
        """True if it is about that session; ``None`` while that is not known."""
        if self.session:
            return facts.session == self.session
        if self.network:
            return self.includes_address(facts.address)
        if not facts.account:
            return None if facts.is_open else False
        return facts.key == self.key if self.key else facts.account == self.account

    def includes_address(self, address: str) -> bool:
        """True if the client's address is in the network. Raises ValueError for no network."""
        if not self.network:
            return False
        network = ipaddress.ip_network(self.network)
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        return (getattr(known, "ipv4_mapped", None) or known) in network


def network_of(text: str) -> str:
    """A network or an address, as a target has it. Raises ValueError."""
    return str(ipaddress.ip_network(text.strip(), strict=False))


def printable(octets: bytes) -> str:
    """The octets as text on one line, with escapes for all that does not print; cut if long."""
    cut, rest = octets[:_MOST_SHOWN], len(octets) - _MOST_SHOWN
    text = cut.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
    return text if rest <= 0 else f"{text}... ({rest} more octets)"


def octets_of(count: int, what: str) -> str:
    """The words for octets that are not shown."""
    return f"({count} octet{'' if count == 1 else 's'} of {what})"


def response_text(line: bytes) -> str:
    """The response to a challenge of AUTH: a lone asterisk, which ends it, or nothing of it."""
    return "*" if line == b"*" else f"{_MASK} {octets_of(len(line), 'a response')}"


def command_text(line: bytes, *, is_doubtful: bool = False) -> str:
    """A line that stands where a command is expected; it is without its CRLF.

    ``is_doubtful``: it may be a line of something else, so that no argument is shown.
    """
    if (login := _LOGIN.fullmatch(line)) is not None:
        return _login_text(login)
    if not is_doubtful and (
        _ADDRESSED.match(line) or _CHUNK.fullmatch(line) or _GREETING.fullmatch(line)
    ):
        return printable(line.rstrip(b" \t"))
    bare = _BARE.match(line)
    if bare is None:
        return octets_of(len(line), "no command")
    verb = bare[0].decode().upper()
    rest = line[bare.end() :].strip(b" \t")
    return f"{verb} {_MASK} {octets_of(len(rest), 'an argument')}" if rest else verb


def _login_text(login: re.Match[bytes]) -> str:
    mechanism, response = (login[1] or b"").upper(), login[2] or b""
    if not mechanism:
        return "AUTH"
    if mechanism not in _MECHANISMS:  # it may be the credentials
        return f"AUTH {_MASK}"
    text = f"AUTH {mechanism.decode()}"
    return f"{text} {_MASK} {octets_of(len(response), 'a response')}" if response else text


def reply_texts(
    octets: bytes, secrets: Iterable[bytes] = (), *, is_doubtful: bool = False
) -> list[str]:
    """The lines of replies, each without its line end; secrets that a server repeats go.

    ``is_doubtful``: refusals may repeat a line that was no command, so that only their codes
    are shown.
    """
    for secret in secrets:
        if secret:
            octets = octets.replace(secret, _MASK.encode())
    lines = [line for line in octets.replace(b"\r\n", b"\n").split(b"\n") if line]
    return [_codes_of(line) for line in lines] if is_doubtful else list(map(printable, lines))


def _codes_of(line: bytes) -> str:
    """A line of a refusal without its text, another one as it is."""
    codes = _REFUSAL_CODES.match(line)
    if codes is None or len(codes[0]) == len(line):
        return printable(line)
    return f"{codes[0].decode()}{_MASK}"
