"""The events of one session: what a client was refused, and how its connection failed."""

import ssl
from collections.abc import Callable
from typing import Final

from smtpgate.core.account import AccessKey
from smtpgate.core.events import (
    BudgetExhausted,
    CommandRefused,
    CutOffBy,
    HandshakeFailed,
    HandshakeProblem,
    MessageCutOff,
)
from smtpgate.core.limits.budget import BudgetName
from smtpgate.core.message.envelope import Client
from smtpgate.core.reply import Reply
from smtpgate.ports import Clock, EventSink

_VERBS: Final = frozenset(
    {
        "HELO", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY",
        "EXPN", "ETRN", "TURN", "HELP", "QUIT",
    }
)  # fmt: skip
# OpenSSL's reasons, by a part of their names.
_PROBLEMS: Final[tuple[tuple[str, HandshakeProblem], ...]] = (
    ("HTTP_REQUEST", "no-tls"),
    ("WRONG_VERSION_NUMBER", "no-tls"),
    ("UNKNOWN_PROTOCOL", "no-tls"),
    ("PACKET_LENGTH_TOO_LONG", "no-tls"),
    ("RECORD_LAYER_FAILURE", "no-tls"),
    ("PROTOCOL_VERSION", "old-version"),
    ("UNSUPPORTED_PROTOCOL", "old-version"),
    ("VERSION_TOO_LOW", "old-version"),
    ("UNKNOWN_CA", "certificate-refused"),
    ("CERTIFICATE", "certificate-refused"),
    ("SHARED_CIPHER", "no-cipher"),
    ("NO_SUITABLE", "no-cipher"),
    ("HANDSHAKE_FAILURE", "no-cipher"),
    ("INSUFFICIENT_SECURITY", "no-cipher"),
    ("UNEXPECTED_EOF", "hung-up"),
)


def handshake_problem(error: Exception | None) -> HandshakeProblem:
    """Why TLS failed, as one of a few reasons."""
    if error is None or isinstance(error, ConnectionError | EOFError):
        return "hung-up"
    if isinstance(error, TimeoutError):
        return "too-slow"
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    for part, problem in _PROBLEMS:
        if part in (reason or ""):
            return problem
    return "other"


class SessionEvents:
    """Publishes the events of one session; ``facts`` has its client and key at that moment."""

    def __init__(
        self,
        events: EventSink,
        clock: Clock,
        facts: Callable[[], tuple[Client, AccessKey | None]],
    ) -> None:
        self._events = events
        self._clock = clock
        self._facts = facts

    def exhausted(self, budget: BudgetName) -> None:
        """The client has used up a budget."""
        client, key_id, account_id = self._who()
        event = BudgetExhausted(budget, client, key_id, account_id, self._clock.now())
        self._events.publish(event)

    def refused(self, verb: bytes, reply: Reply) -> None:
        """A command was refused."""
        client, key_id, account_id = self._who()
        said = verb.decode("ascii")
        event = CommandRefused(
            said if said in _VERBS else "other",
            reply,
            client,
            key_id,
            account_id,
            self._clock.now(),
        )
        self._events.publish(event)

    def cut_off(self, by: CutOffBy, octets: int) -> None:
        """A message ended before it was complete."""
        client, key_id, account_id = self._who()
        self._events.publish(
            MessageCutOff(by, octets, client, key_id, account_id, self._clock.now())
        )

    def tls_failed(self, error: Exception | None) -> None:
        """TLS failed, in the handshake or when the client judged the certificate."""
        client, _, _ = self._who()
        self._events.publish(
            HandshakeFailed(handshake_problem(error), client, self._clock.now())
        )

    def _who(self) -> tuple[Client, str | None, str | None]:
        client, key = self._facts()
        if key is None:
            return client, None, None
        return client, key.id, key.principal.account.id
