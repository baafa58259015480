"""One submission as the doors hand it over: who, from where, for whom, and the octets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from smtpgate.core.account import Principal, SendingLimits
from smtpgate.core.address import Mailbox, ReversePath

# RFC 6177 §2: a site has at least so much, and each of its hosts can use all of it.
_IPV6_PREFIX: Final = 64


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of the connection."""

    address: str
    helo: str
    listener: str
    protocol: str
    tls_version: str | None = None
    tls_cipher: str | None = None
    session_id: str = ""


def network_of_client(address: str) -> str:
    """What counts as one client: an IPv4 address, or the network that an IPv6 host may use."""
    if ":" not in address:
        return address
    try:
        known = IPv6Address(address)
    except ValueError:
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(IPv6Network((known, _IPV6_PREFIX), strict=False))


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path and forward-paths; not the header (RFC 5321 §2.3.1)."""

    reverse_path: ReversePath
    recipients: Sequence[Mailbox]
    smtputf8: bool = False
    body_8bit: bool = False

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address of it cannot be written in ASCII (RFC 6531 §3.2)."""
        sender = self.reverse_path.mailbox
        return (sender is not None and not sender.is_ascii) or not all(
            recipient.is_ascii for recipient in self.recipients
        )


@dataclass(frozen=True, slots=True)
class Submission:
    """A whole message with its envelope, by an authenticated principal, not yet decided on.

    ``message`` is not dot-stuffed; ``message.bare_lf`` says whether the door has made its line
    ends whole. ``key_limits`` are the access key's own.
    """

    message_id: str
    principal: Principal
    access_key_id: str
    client: Client
    envelope: Envelope
    message: bytes
    received_at: datetime
    key_limits: SendingLimits | None = None
