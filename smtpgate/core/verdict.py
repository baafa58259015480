"""Verdicts: what the client hears of an upstream's answer, and how a refusal is worded."""

from typing import Final

from smtpgate.core.reply import Reject, Reply, reply_of
from smtpgate.core.upstream import Delivery

__all__ = ["refusal_of", "worded"]

_MAX_DETAIL: Final = 300
_MAX_NAMED: Final = 5


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
    """The reply as the client hears it: the text, then the reason, the detail and the id."""
    detail = refusal.detail
    if len(detail) > _MAX_DETAIL:
        detail = detail[: _MAX_DETAIL - 3] + "..."
    reason = f"{refusal.reason}: {detail}" if detail else refusal.reason
    return refusal.reply.with_text(f"{refusal.reply.text} ({reason}; {message_id})")
