"""The words between a session and the owner of its socket: terms, states and steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from smtpgate.core.message.body import Octets
from smtpgate.core.sasl_mechanism import Mechanism
from smtpgate.core.secret import Secret
from smtpgate.core.upstream.commands import ehlo_command
from smtpgate.core.upstream.delivery import (
    Answered,
    InDoubt,
    RecipientReply,
    UpstreamUnavailableError,
)
from smtpgate.core.upstream.sasl import plain_response, token_response


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a connection: our name and login, and the TLS that it needs.

    ``is_encrypted`` is true when TLS began before the first octet. Credentials are sent only
    under TLS that is required, so verified, or over loopback (``is_loopback``). Without
    ``chunking`` a server that offers it is used as one that does not. With a ``token`` there is
    no password; ``host`` and ``port`` are the server's, as OAUTHBEARER names them. ``auth`` is
    the only mechanism to log in by. Raises CommandError.
    """

    name: str
    helo: str
    tls: Literal["required", "opportunistic", "off"]
    is_encrypted: bool = False
    is_loopback: bool = False
    chunking: bool = True
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    auth: Mechanism | None = None
    host: str = ""
    port: int = 25

    def __post_init__(self) -> None:
        ehlo_command(self.helo)
        if self.username is None:
            return
        if self.password is not None:
            plain_response(self.username, self.password)
        if self.token is not None:
            token_response("XOAUTH2", self.username, self.token, self.host, self.port)

    def named(self, problem: str) -> str:
        """The problem, with the name of the server that has it."""
        return f"upstream {self.name}: {problem}"


# The states of a connection.
State = Literal["opening", "the TLS handshake", "ready", "busy", "closed"]
# The command that a coming reply answers, by its name in messages.
Due = Literal[
    "the connection",
    "EHLO",
    "STARTTLS",
    "AUTH",
    "our credentials",
    "the end of our login",
    "AUTH LOGIN",
    "the user name",
    "the password",
    "MAIL",
    "RCPT",
    "DATA",
    "BDAT",
    "the message",
    "RSET",
    "NOOP",
]


class Send(Struct, frozen=True, gc=False):
    """Send these octets."""

    octets: bytes


class SendWhole(Struct, frozen=True, gc=False):
    """Send this whole message in one write, then call ``message_sent``.

    ``wire`` is the message with the end of data behind it, ``octets`` its size without.
    """

    wire: bytes
    octets: int


class SendMessage(Struct, frozen=True, gc=False):
    """Send the message in pieces, then call ``message_sent``; ``octets`` is about its size.

    ``reads_file``: to take the next piece may block, because it is read from a file.
    ``in_chunks``: each piece is a command with its octets (RFC 3030 §2). Call ``chunk_written``
    when it was handed to the socket, and take no other when ``wants_chunks`` is false by then;
    the last one goes out when ``replies_due`` is 0.
    """

    pieces: Iterator[Octets]
    octets: int
    reads_file: bool = False
    in_chunks: bool = False


class RefusedInPart(Struct, frozen=True, gc=False):
    """The server refused these recipients for good, and accepted others.

    Call ``go_on`` to send the message to the others, ``leave`` to send it to nobody.
    """

    refused: tuple[RecipientReply, ...]


class StartTls(Struct, frozen=True, gc=False):
    """Begin the TLS handshake, then call ``tls_started``."""


class Ready(Struct, frozen=True, gc=False):
    """A transaction can begin."""


class Done(Struct, frozen=True, gc=False):
    """The transaction is over; the connection can be used again if its state is READY."""

    delivery: Answered | InDoubt


@dataclass(frozen=True, slots=True)
class Failed:
    """The connection is of no use.

    ``is_stale``: it ended before any command of the transaction was answered, as connections
    do that were kept too long; on a fresh one the same transaction may well succeed.
    """

    error: UpstreamUnavailableError
    is_stale: bool = False


Step = Send | SendWhole | SendMessage | RefusedInPart | StartTls | Ready | Done | Failed
