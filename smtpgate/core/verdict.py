"""Verdicts: what the client hears of an upstream's answer, and how a refusal is worded."""

from collections.abc import Mapping
from typing import Final

from smtpgate.core.reply import CATALOGUE, INNER_REASONS, Reject, Reply, reply_of
from smtpgate.core.upstream import Delivery

__all__ = ["OVER_LIMIT", "last_word", "over_limit", "refusal_of", "worded"]

_MAX_DETAIL: Final = 300
_MAX_NAMED: Final = 5
# What a session hears when nothing may be sent any more with the key that it logged in with.
_LAST_WORDS: Final = {
    "access-key-inactive": "session-key-inactive",
    "access-key-expired": "session-key-expired",
    "network-not-allowed": "session-network-not-allowed",
    "account-paused": "session-account-paused",
}

# The reply to what is over each sending limit.
OVER_LIMIT: Final[Mapping[str, str]] = {
    "max-24h-send": "daily-quota",
    "max-send-rate": "send-rate",
}


def over_limit(limit: str, detail: str = "") -> Reject:
    """The refusal of what is over a sending limit; ``detail`` says whose, and what is left."""
    return Reject(reply_of(OVER_LIMIT[limit]), limit, detail)


def refusal_of(delivery: Delivery) -> Reject | None:
    """The refusal that a delivery amounts to, or ``None`` when the upstream took the message.

    One message has one reply, so a part of its recipients cannot be refused: when any is
    deferred or refused nothing was sent, and the client hears of whom it was
    (RFC 5321 §4.2.1 for the classes of codes).
    """
    if delivery.is_accepted:
        return None
    refused = delivery.refused
    if not refused:
        return Reject(delivery.reply, "upstream-reply")
    if len(refused) == len(delivery.recipients) and all(
        entry.reply.is_permanent for entry in refused
    ):
        return Reject(refused[0].reply, "upstream-reply")
    deferred = [entry for entry in refused if entry.reply.is_transient]
    if len(delivery.recipients) == 1:
        return Reject(deferred[0].reply, "upstream-reply")
    named = deferred or refused
    shown = ", ".join(f"<{entry.mailbox}> ({entry.reply})" for entry in named[:_MAX_NAMED])
    if len(named) > _MAX_NAMED:
        shown += f" and {len(named) - _MAX_NAMED} more"
    kind = "recipients-deferred" if deferred else "recipients-refused"
    return Reject(reply_of(kind, refused=shown), kind)


def worded(refusal: Reject, message_id: str) -> Reply:
    """The reply to the client: the text, then the reason, the detail and the id.

    A detail of the gate's insides is left out; the id leads to it in the log and the journal.
    """
    return refusal.reply.with_text(f"{refusal.reply.text} ({_why(refusal)}; {message_id})")


def last_word(refusal: Reject) -> Reply:
    """The 421 that ends a session whose access key or account would be refused so by now."""
    reply = CATALOGUE[_LAST_WORDS[refusal.reason]]
    return reply.with_text(f"{reply.text} ({_why(refusal)})")


def _why(refusal: Reject) -> str:
    detail = "" if refusal.reason in INNER_REASONS else refusal.detail
    if len(detail) > _MAX_DETAIL:
        detail = detail[: _MAX_DETAIL - 3] + "..."
    return f"{refusal.reason}: {detail}" if detail else refusal.reason
