"""The SMTP client without sockets: what the gate says to its upstream, and what it hears."""

from smtpgate.core.upstream.delivery import (
    Delivery,
    InDoubtError,
    LacksExtensionError,
    RecipientReply,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)

__all__ = [
    "Delivery",
    "InDoubtError",
    "LacksExtensionError",
    "RecipientReply",
    "UpstreamProtocolError",
    "UpstreamUnavailableError",
]
