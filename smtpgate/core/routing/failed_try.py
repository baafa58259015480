"""Tries of upstreams that failed before a message was sent to another one, or to none."""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from smtpgate.core.upstream.delivery import Cause

# "open": its circuit breaker is open, so it was not asked.
TryCause = Cause | Literal["open"]

# The causes, for the log, the metrics and the guide.
CAUSES: Final[Mapping[TryCause, str]] = {
    "connect": "it cannot be connected to, or its name is not found",
    "tls": "TLS failed, or is not offered where it is required",
    "login": "it refused the login, or offers none that the gate knows",
    "timeout": "it gave no answer in time",
    "421": "it replied 421",
    "refused": "it refused to serve the gate in the greeting or at EHLO",
    "lost": "the connection was lost before the final dot",
    "protocol": "its replies are not SMTP",
    "busy": "messages wait too long for it, or too many of the account wait",
    "extension": "it lacks an extension that the message needs, such as SMTPUTF8",
    "open": "it failed lately, so it was not asked",
}


class FailedTry(Struct, frozen=True, gc=False):
    """An upstream that was of no use for a message, and why; nothing was sent to it."""

    upstream: str
    cause: TryCause
    problem: str = ""
