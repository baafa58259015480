"""The SMTP client without sockets: what the gate says to its upstream, and what it hears.

Reads bottom-up: what a transaction can come to (``delivery``), how many recipients a server
takes (``recipient_limit``), what is heard (``replies``) and
said (``commands``), the words between the session and its socket (``steps``), and the session
itself, a table of transitions (``session``).
"""

from smtpgate.core.upstream.commands import CommandError, Octets
from smtpgate.core.upstream.delivery import (
    Answered,
    Delivery,
    InDoubt,
    LacksExtensionError,
    NotSent,
    NotSentError,
    RecipientReply,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from smtpgate.core.upstream.recipient_limit import is_too_many, recipient_limit
from smtpgate.core.upstream.session import UpstreamSession
from smtpgate.core.upstream.steps import (
    Done,
    Failed,
    Ready,
    Send,
    SendMessage,
    StartTls,
    State,
    Step,
    Terms,
)

__all__ = [
    "Answered",
    "CommandError",
    "Delivery",
    "Done",
    "Failed",
    "InDoubt",
    "LacksExtensionError",
    "NotSent",
    "NotSentError",
    "Octets",
    "Ready",
    "RecipientReply",
    "Send",
    "SendMessage",
    "StartTls",
    "State",
    "Step",
    "Terms",
    "UpstreamProtocolError",
    "UpstreamSession",
    "UpstreamUnavailableError",
    "is_too_many",
    "recipient_limit",
]
