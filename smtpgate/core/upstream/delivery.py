"""What one transaction with the upstream came to: a delivery, or one of four errors.

The errors take sides. Whoever catches one knows whether the message can be tried again::

    UpstreamUnavailableError      nothing was accepted: try again later
    ├── UpstreamProtocolError     … because the server talks nonsense
    ├── UpstreamBusyError         … because too many messages of the account wait for it
    └── ClientGoneError           … because the client left while its message waited
    InDoubtError                  the final dot was sent and no answer came (RFC 1047)
    LacksExtensionError           nothing was sent: the server cannot take such a message
"""

from dataclasses import dataclass

from smtpgate.core.address import Mailbox
from smtpgate.core.reply import Reply


class UpstreamUnavailableError(Exception):
    """Nothing was accepted: no connection, TLS or login, or silence before the final dot."""


class UpstreamProtocolError(UpstreamUnavailableError):
    """The server does not speak SMTP as we know it; nothing was accepted."""


class UpstreamBusyError(UpstreamUnavailableError):
    """Too many messages of the same account wait for a connection; nothing was sent."""


class ClientGoneError(UpstreamUnavailableError):
    """The client left while its message waited for a connection; nothing was sent."""


class InDoubtError(Exception):
    """The final dot was sent and no answer came: the message may have been accepted.

    RFC 1047 §2 has the story; RFC 5321 §4.5.3.2.6 says how long to wait for the answer.
    """


class LacksExtensionError(Exception):
    """The message needs an extension that the server does not offer; nothing was sent."""

    def __init__(self, extension: str) -> None:
        super().__init__(extension)
        self.extension = extension

    def __str__(self) -> str:
        return f"the server does not offer {self.extension}"


@dataclass(frozen=True, slots=True)
class RecipientReply:
    """What the upstream answered to one RCPT command."""

    mailbox: Mailbox
    reply: Reply


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome of one transaction.

    ``upstream`` is the configured name. ``reply`` is the upstream's last word: its answer to
    the message, or the refusal of the command that ended the transaction. ``recipients`` has
    the answer to every RCPT, in order; it is empty when the reverse-path was refused.
    """

    upstream: str
    reply: Reply
    recipients: tuple[RecipientReply, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether the upstream took responsibility for the message (RFC 5321 §4.2.5)."""
        return self.reply.is_positive

    @property
    def refused(self) -> tuple[RecipientReply, ...]:
        """The recipients that were deferred or refused; with any of them nothing was sent."""
        return tuple(entry for entry in self.recipients if not entry.reply.is_positive)
