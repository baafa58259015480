"""The ends that a transaction with the upstream can come to.

The caller gets one of them, and a ``match`` that forgets one is a type error::

    Delivery = Answered    the upstream gave its verdict: it took the message, or refused it
             | InDoubt     the final dot was sent and no answer came (RFC 1047)
             | NotSent     nothing was accepted, so the message can be tried again

Inside the relay, a :class:`NotSentError` carries a NotSent to the end of the delivery::

    NotSentError
    ├── LacksExtensionError           the server cannot take such a message
    └── UpstreamUnavailableError      no connection, TLS or login, or silence too early
        ├── LoginRefusedError         … because the server refused our login
        └── UpstreamProtocolError     … because the server does not speak SMTP as we know it
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from msgspec import Struct

from smtpgate.core.address import Mailbox
from smtpgate.core.reply import Reply

# These are reasons of the gate's refusals too.
NotSentReason = Literal[
    "upstream-unreachable",
    "upstream-busy",
    "client-gone",
    "needs-8bitmime",
    "needs-binarymime",
    "needs-requiretls",
    "needs-smtputf8",
]
Extension = Literal["8BITMIME", "BINARYMIME", "REQUIRETLS", "SMTPUTF8"]
LACKING: Final[Mapping[Extension, NotSentReason]] = {
    "8BITMIME": "needs-8bitmime",
    "BINARYMIME": "needs-binarymime",
    "REQUIRETLS": "needs-requiretls",
    "SMTPUTF8": "needs-smtputf8",
}
"""The reason of a message that needs an extension: it will be the same at the next try."""

# Why an upstream was of no use for a message: it cannot be connected to; TLS failed, or is not
# offered; it does not let us log in; it gave no answer in time; it replied 421; it refused to
# serve us otherwise; the connection was lost; it does not speak SMTP as we know it; its line is
# too long; it lacks an extension that the message needs.
Cause = Literal[
    "connect",
    "tls",
    "login",
    "timeout",
    "421",
    "refused",
    "lost",
    "protocol",
    "busy",
    "extension",
]


class RecipientReply(Struct, frozen=True, gc=False):
    """The upstream's answer to one RCPT command."""

    mailbox: Mailbox
    reply: Reply


class Answered(Struct, frozen=True, gc=False):
    """The upstream's verdict on a message.

    ``upstream`` is the configured name. ``reply`` is the upstream's last word: its answer to
    the message, or the refusal of the command that ended the transaction. ``recipients`` has
    the answer to every RCPT, in order; it is empty when the reverse-path was refused.
    ``is_in_part``: the message was offered for the accepted recipients alone, so the reply is
    about these. ``has_dsn``: the server offers DSN, so it got the delivery options too.
    """

    upstream: str
    reply: Reply
    recipients: tuple[RecipientReply, ...]
    is_in_part: bool = False
    has_dsn: bool = True

    @property
    def is_accepted(self) -> bool:
        """True if the upstream took responsibility for the message (RFC 5321 §4.2.5)."""
        return self.reply.is_positive

    @property
    def refused(self) -> tuple[RecipientReply, ...]:
        """The recipients that were deferred or refused.

        With any of them nothing was sent, unless it was in part.
        """
        return tuple(entry for entry in self.recipients if not entry.reply.is_positive)


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The final dot was sent and no answer came: the message may have been accepted.

    RFC 1047 §2 describes it; RFC 5321 §4.5.3.2.6 says how long to wait for the answer.
    """

    problem: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing was accepted.

    ``cause`` is what was wrong with the upstream; ``None`` if nothing was. ``is_final``: the
    server has seen the whole message, or answered to it, so no other one may get it.
    """

    reason: NotSentReason
    problem: str = ""
    cause: Cause | None = None
    is_final: bool = False


Delivery = Answered | InDoubt | NotSent


class NotSentError(Exception):
    """Nothing was accepted: the delivery ends here."""

    def __init__(
        self,
        reason: NotSentReason,
        problem: str = "",
        cause: Cause | None = None,
        *,
        is_final: bool = False,
    ) -> None:
        super().__init__(problem or reason)
        self.delivery = NotSent(reason, problem, cause, is_final)


class LacksExtensionError(NotSentError):
    """The message needs an extension that the server does not offer."""

    def __init__(self, extension: Extension, problem: str = "") -> None:
        super().__init__(LACKING[extension], problem, cause="extension")
        self.extension = extension

    def __str__(self) -> str:
        return self.delivery.problem or f"the server does not offer {self.extension}"


class UpstreamUnavailableError(NotSentError):
    """No connection, TLS or login, or silence before the final dot."""

    def __init__(self, problem: str, cause: Cause = "lost", *, is_final: bool = False) -> None:
        super().__init__("upstream-unreachable", problem, cause, is_final=is_final)


class LoginRefusedError(UpstreamUnavailableError):
    """The server refused our login.

    ``is_invalid``: it does not accept these credentials (RFC 4954 §6, 535).
    """

    def __init__(self, problem: str, *, is_invalid: bool) -> None:
        super().__init__(problem, "login")
        self.is_invalid = is_invalid


class UpstreamProtocolError(UpstreamUnavailableError):
    """The server does not speak SMTP as we know it."""

    def __init__(self, problem: str, *, is_final: bool = False) -> None:
        super().__init__(problem, "protocol", is_final=is_final)
