"""The SMTP client without sockets: the commands that the gate sends, and the replies it gets.

Reads bottom-up: the ends of a transaction (``delivery``), the limit of recipients that a server
shows (``recipient_limit``), its replies (``replies``), our commands (``commands``), the steps
that a socket carries out (``steps``), and the session itself, a table of transitions
(``session``). ``verdict`` makes refusals of deliveries.
"""

from smtpgate.core.message.body import Body, Octets
from smtpgate.core.upstream.commands import CommandError
from smtpgate.core.upstream.delivery import (
    LACKING,
    Answered,
    Cause,
    Delivery,
    InDoubt,
    LacksExtensionError,
    LoginRefusedError,
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
    RefusedInPart,
    Send,
    SendMessage,
    SendWhole,
    StartTls,
    Step,
    Terms,
)

__all__ = [
    "LACKING",
    "Answered",
    "Body",
    "Cause",
    "CommandError",
    "Delivery",
    "Done",
    "Failed",
    "InDoubt",
    "LacksExtensionError",
    "LoginRefusedError",
    "NotSent",
    "NotSentError",
    "Octets",
    "Ready",
    "RecipientReply",
    "RefusedInPart",
    "Send",
    "SendMessage",
    "SendWhole",
    "StartTls",
    "Step",
    "Terms",
    "UpstreamProtocolError",
    "UpstreamSession",
    "UpstreamUnavailableError",
    "is_too_many",
    "recipient_limit",
]
