"""The replies of the gate to its clients, in one catalogue, and the verdict ``Reject``.

Texts are SES's where SES has them (``[SES]``). The refusal of a submission adds a reason code
and the message id in parentheses, which a person can quote to the operator.
"""

import re
from functools import lru_cache
from typing import Final, NoReturn, Self

from msgspec import Struct

from smtpgate.core.reason import REASONS

# Both codes, of one class.
_CODES: Final = re.compile(r"([245])[0-9]{2} \1\.[0-9]{1,3}\.[0-9]{1,3}")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_MAX_TEXT: Final = 480  # RFC 5321 §4.5.3.1.5: 512 octets a line, with codes and CRLF


class Reply(Struct, frozen=True, gc=False, eq=False):
    """A basic code, an enhanced status code of the same class (RFC 2034 §4), and a text.

    ``enhanced`` is empty where RFC 2034 §3 requires none: 220 at connect, EHLO, 3yz. ``name``
    is the name in the catalogue; another server's reply has none. It is not compared.
    """

    code: int
    enhanced: str
    text: str
    name: str = ""

    def __post_init__(self) -> None:
        _must_agree(self.code, self.enhanced)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reply) and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    @property
    def _compared(self) -> tuple[int, str, str]:
        return self.code, self.enhanced, self.text

    @property
    def is_positive(self) -> bool:
        """2yz: success."""
        return self.code < 300

    @property
    def is_transient(self) -> bool:
        """4yz: the client may try again."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz: the client should not try again unchanged."""
        return self.code >= 500

    def with_text(self, text: str) -> "Reply":
        """The same codes with another text."""
        return Reply(self.code, self.enhanced, text, self.name)

    def __str__(self) -> str:
        codes = f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)
        return f"{codes} {self.text}" if self.text else codes

    def wire(self) -> bytes:
        """The octets to send: one line, or several when the text is long (RFC 5321 §4.2.1)."""
        text = self.text
        if not text.isascii() or not text.isprintable():
            text = _UNPRINTABLE.sub(_escaped, text)
        prefix = f"{self.enhanced} " if self.enhanced else ""
        if len(text) <= _MAX_TEXT:
            return f"{self.code} {prefix}{text}\r\n".encode("ascii")
        lines = _wrapped(text)
        return "".join(
            f"{self.code}{'-' if line is not lines[-1] else ' '}{prefix}{line}\r\n"
            for line in lines
        ).encode("ascii")


@lru_cache(maxsize=256)  # a server has few of them
def _must_agree(code: int, enhanced: str) -> None:
    if not 200 <= code <= 599:
        raise ValueError(f"not a reply code: {code}")
    if enhanced and _CODES.fullmatch(f"{code} {enhanced}") is None:
        raise ValueError(f"{code} and {enhanced!r} do not agree")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _wrapped(text: str) -> list[str]:
    lines = []
    while len(text) > _MAX_TEXT:
        cut = text.rfind(" ", 1, _MAX_TEXT)
        cut = cut if cut > 0 else _MAX_TEXT
        lines.append(text[:cut])
        text = text[cut:].lstrip(" ")
    lines.append(text)
    return lines


class Reject(Exception):  # noqa: N818 - a verdict, not an error
    """A refusal: the reply to the peer, and the reason code and detail for the log.

    The reply contains the detail too, unless the reason ``is_inner``.
    """

    def __init__(self, reply: Reply, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"not a reason code: {reason!r}")
        super().__init__(reply, reason, detail)
        self.reply = reply
        self.reason = reason
        self.detail = detail

    @classmethod
    def of(cls, reason: str, detail: str = "", **facts: object) -> Self:
        """The refusal for that reason, its reply's text filled in with the facts."""
        return cls(reply_of(REASONS[reason].reply, **facts), reason, detail)

    def __str__(self) -> str:
        return f"{self.reply} [{self.reason}] {self.detail}".rstrip()


def reply_of(name: str, **facts: object) -> Reply:
    """The catalogue's reply of that name, its text filled in with the facts."""
    reply = CATALOGUE[name]
    return Reply(reply.code, reply.enhanced, reply.text.format(**facts), name)


def accepted(message_id: str) -> Reply:
    """The reply to an accepted message; for each of them ``str.format`` would take long."""
    return _ACCEPTED.with_text(_ACCEPTED.text + message_id)


def reject(reason: str, detail: str = "", **facts: object) -> NoReturn:
    """Raise the refusal for that reason."""
    raise Reject.of(reason, detail, **facts)


# The form of each: the code, the enhanced code if it has one, and the text.
_LINE: Final = re.compile(r"([0-9]{3}) (?:([245]\.[0-9]{1,3}\.[0-9]{1,3}) )?(.*)")
_REPLIES: Final[dict[str, str]] = {
    # connection and session
    "greeting": "220 {hostname} ESMTP",
    "bye": "221 2.0.0 Bye",
    "shutting-down": "421 4.3.2 {hostname} Service shutting down, try again",
    "too-many-connections": "421 4.7.0 Too many concurrent SMTP connections",  # [SES]
    "banned": "421 4.7.0 Too many failed logins or errors from your address, try again later",
    "idle": "421 4.4.2 Timeout waiting for data from client.",
    "too-many-refusals": (
        "421 4.7.0 Too many messages of this account were refused, try again later"
    ),
    "auth-timeout": "421 4.7.0 Not authenticated in time, closing the connection",
    "too-much-input": "421 4.7.0 Too much input before authentication, closing the connection",
    "too-many-errors": "421 4.7.0 Too many errors, closing the connection",
    "session-key-inactive": "421 4.7.0 Access key is no longer active, closing the connection",
    "session-key-expired": "421 4.7.0 Access key has expired, closing the connection",
    "session-network-not-allowed": (
        "421 4.7.0 Access key may not be used from this network, closing the connection"
    ),
    "session-certificate-not-allowed": (
        "421 4.7.0 Access key may not be used without its certificate, closing the connection"
    ),
    "session-key-suspended": "421 4.7.0 Access key is suspended, closing the connection",
    "session-token-ended": (
        "421 4.7.0 Access token has ended, log in with another one, closing the connection"
    ),
    "session-account-paused": (
        "421 4.7.0 Sending paused for this account, closing the connection"
    ),
    "ok": "250 2.0.0 Ok",
    "sender-ok": "250 2.1.0 Ok",
    "recipient-ok": "250 2.1.5 Ok",
    "vrfy": "252 2.5.2 Cannot verify, but will try to deliver",
    "help": "214 2.0.0 See RFC 6409; commands: EHLO STARTTLS AUTH MAIL RCPT DATA BDAT",
    "start-tls": "220 2.0.0 Ready to start TLS",
    "chunk-ok": "250 2.0.0 Ok, more chunks may follow",
    "start-data": "354 End data with <CR><LF>.<CR><LF>",
    "too-early": (
        "554 5.5.1 Protocol error: data was sent before the reply that it has to wait for"
    ),
    "unknown-command": "500 5.5.2 Command not recognized",
    "line-too-long": "500 5.5.6 Line too long",
    "bad-line-end": (
        "500 5.5.2 A command line must end with <CR><LF>, without control characters"
    ),
    "syntax": "501 5.5.4 Syntax: {syntax}",
    "bad-chunk": "501 5.5.4 Syntax: BDAT octets [LAST]; closing the connection",
    "bad-helo": "501 5.5.4 Invalid host name: {problem}",
    "not-implemented": "502 5.5.1 Command not implemented",
    "bad-sequence": "503 5.5.1 Bad sequence of commands: {problem}",
    "not-offered": "555 5.5.4 Parameter of an extension not offered: {parameter}",
    "unknown-parameter": "555 5.5.4 Parameter not recognized: {parameter}",
    # TLS and authentication
    "tls-first": "530 5.7.0 Must issue a STARTTLS command first",  # [SES]
    "auth-first": "530 5.7.0 Authentication required",  # [SES]
    "tls-unavailable": "454 4.7.0 TLS not available on this connection",
    "auth-continue": "334 {challenge}",
    "auth-ok": "235 2.7.0 Authentication successful.",  # [SES]
    "auth-aborted": "501 5.7.0 Authentication exchange cancelled",
    "auth-malformed": "501 5.5.2 Cannot decode the authentication response",
    "auth-mechanism": (
        "504 5.5.4 Authentication mechanism not supported; use one that EHLO offers"
    ),
    "auth-invalid": "535 5.7.8 Authentication Credentials Invalid",  # [SES]
    "auth-unavailable": "454 4.7.0 Temporary authentication failure",  # [SES]
    # envelope
    "bad-sender": "553 5.1.7 <{address}> Invalid email address: {problem}",  # [SES]
    "bad-recipient": "553 5.1.3 <{address}> address unknown: {problem}",  # [SES]
    "needs-smtputf8": "553 5.6.7 <{address}> needs the SMTPUTF8 parameter",
    "too-many-recipients": "452 4.5.3 Too many recipients: at most {limit} a message",
    "too-many-domains": "452 4.5.3 Too many domains of recipients: at most {limit} a message",
    "too-long": "552 5.3.4 Message is too long.",  # [SES]
    "overloaded": "452 4.3.1 Too many messages in flight at this moment, try again",
    "no-storage": "452 4.3.1 Insufficient system storage, try again later",
    # the message
    "accepted": "250 2.0.0 Ok {message_id}",  # [SES]
    "transaction-failed": "554 5.6.0 Transaction failed: {problem}",  # [SES]
    "too-many-hops": "554 5.4.6 Message has passed too many mail servers: {problem}",
    "needs-8bitmime": "554 5.6.3 Message has 8-bit octets, and the upstream lacks 8BITMIME",
    "upstream-lacks-smtputf8": "554 5.6.7 Message needs SMTPUTF8, and the upstream lacks it",
    "needs-binarymime": "554 5.6.3 Message is binary, and the upstream lacks BINARYMIME",
    "needs-requiretls": (
        "550 5.7.30 REQUIRETLS support required, and the upstream lacks it"
    ),  # RFC 8689 §5
    # identities and authorization
    "not-verified": (
        "554 5.7.1 Message rejected: Email address is not verified. The following identities "
        "failed the check in region {region}: {addresses}"
    ),  # [SES]
    "not-aligned": (
        "554 5.7.1 The address '{address}' does not align with the given ARN '{arn}'"
    ),  # [SES]
    "access-denied": (
        "554 5.7.1 Access denied: User `{user}' is not authorized to perform `{action}' on "
        "resource `{resource}'"
    ),  # [SES]
    "access-key-inactive": "554 5.7.1 Access denied: the access key is not active",
    "access-key-expired": "554 5.7.1 Access denied: the access key has expired",
    "network-not-allowed": (
        "554 5.7.1 Access denied: the access key may not be used from this network"
    ),
    "certificate-not-allowed": (
        "554 5.7.1 Access denied: the access key may not be used without its client certificate"
    ),
    "access-key-suspended": (
        "554 5.7.1 Access denied: the access key is suspended, because its use differs from "
        "before; ask the administrator of the account to confirm it"
    ),
    "account-paused": "554 5.7.1 Message rejected: Sending paused for this account.",  # [SES]
    "configuration-set-paused": (
        "554 5.7.1 Message rejected: Sending is paused for configuration set <{set_name}>."
    ),
    "account-shutdown": (
        "554 5.7.1 Message rejected: Sending paused for this account until the operator "
        "resumes it."
    ),  # [SES], and how it ends
    "delegate-paused": (
        "554 5.7.1 Message rejected: Sending paused for this account by identity {arn} until "
        "its owner resumes it."
    ),
    "identity-paused": "554 5.7.1 Message rejected: Sending paused for identity {arn}.",
    # limits
    "daily-quota": "454 4.7.0 Throttling failure: Daily message quota exceeded.",  # [SES]
    "send-rate": "454 4.7.0 Throttling failure: Maximum sending rate exceeded.",  # [SES]
    # signing and relay
    "mail-from-not-verified": (
        "451 4.4.4 MAIL FROM domain of the identity has no MX record that leads here"
    ),
    "signing-failed": "451 4.7.5 Message could not be signed",
    "upstream-unreachable": "451 4.4.1 Upstream mail server is not reachable, try again",
    "upstream-busy": "451 4.3.2 Too many messages wait for the upstream mail server, try again",
    "client-gone": (
        "451 4.4.2 Connection was closed before the message could be sent, try again"
    ),
    "upstream-in-doubt": "451 4.4.2 Upstream mail server gave no answer to the message",
    "recipients-refused": (
        "451 4.5.0 Message not sent: the next server rejected {refused}. Try again: they are "
        "rejected at RCPT then, and the message goes to the others"
    ),
    "recipients-deferred": (
        "451 4.5.0 Message not sent: the next server deferred {refused}. Try again: they are "
        "deferred at RCPT then, and the message goes to the others"
    ),
    # ourselves
    "temporary-failure": "451 4.3.0 Temporary service failure",  # [SES]
}


def _read(name: str, line: str) -> Reply:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"not a reply: {line}")
    return Reply(int(found[1]), found[2] or "", found[3], name)


# Every reply that the gate gives by itself; the reference is made from this.
CATALOGUE: Final[dict[str, Reply]] = {
    name: _read(name, line) for name, line in _REPLIES.items()
}

_ACCEPTED: Final = reply_of("accepted", message_id="")

# The refusal that a sender sees if it named an identity and no Allow of it names the sender:
# the same whether the identity exists, is verified, is paused, or denies.
MASKED_REASON: Final = "implicit-deny"
MASKED_DETAIL: Final = "the identity's policies do not name you"
