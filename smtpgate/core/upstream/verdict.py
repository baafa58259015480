"""Verdicts: what the client hears of an upstream's answer, and how a refusal is worded."""

from collections.abc import Mapping, Sequence
from typing import Final

from smtpgate.core.address import Mailbox
from smtpgate.core.reply import CATALOGUE, INNER_REASONS, Reject, Reply, reply_of
from smtpgate.core.upstream import Delivery, is_too_many

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

# It lasts until the identity's owner does something, so another try is worth no more than after
# a refusal for good.
_LASTING: Final = "no-signing-key"
# For these a sender can have its messages put off as often as it likes.
PUT_OFF_AT_WILL: Final = frozenset({*OVER_LIMIT, _LASTING, "client-gone"})
# Refusals that are no fault of the sender's messages as the gate sees them.
_UPSTREAMS_OWN: Final = frozenset({"upstream-reply", "needs-8bitmime", "needs-smtputf8"})


def is_gates_own(refusal: Reject) -> bool:
    """Whether the gate itself refuses the message for good, whatever the upstream thinks.

    Or as good as for good: there is no key to sign it with.
    """
    if refusal.reason == _LASTING:
        return True
    return refusal.reply.is_permanent and refusal.reason not in _UPSTREAMS_OWN


def over_limit(limit: str, detail: str = "") -> Reject:
    """The refusal of what is over a sending limit; ``detail`` says whose, and what is left."""
    return Reject(reply_of(OVER_LIMIT[limit]), limit, detail)


def refusal_of(delivery: Delivery) -> Reject | None:
    """The refusal that a delivery amounts to, or ``None`` when the upstream took the message.

    When all recipients were refused for good, the upstream's reply is passed on, as it is for
    the only recipient. Otherwise the client may try again: the message has one reply, and it
    must not be lost for the recipients that were not refused (RFC 5321 §4.2.1 for the classes
    of codes).
    """
    if delivery.is_accepted:
        return None
    refused = delivery.refused
    if not refused:
        return Reject(delivery.reply, "upstream-reply")
    if len(delivery.recipients) == 1:
        return Reject(refused[0].reply, "upstream-reply")
    deferred = [entry for entry in refused if _may_be_tried_again(entry.reply)]
    if not deferred and len(refused) == len(delivery.recipients):
        return Reject(refused[0].reply, "upstream-reply")
    named = deferred or refused
    shown = ", ".join(f"<{entry.mailbox}> ({entry.reply})" for entry in named[:_MAX_NAMED])
    if len(named) > _MAX_NAMED:
        shown += f" and {len(named) - _MAX_NAMED} more"
    kind = "recipients-deferred" if deferred else "recipients-refused"
    return Reject(reply_of(kind, refused=shown), kind)


def answers_at_next_try(delivery: Delivery) -> Sequence[tuple[Mailbox, Reply]]:
    """The refused recipients of a message that the client sends again, each with its answer.

    A recipient beyond the number that the server takes at once is not refused itself.
    """
    if delivery.is_accepted or len(delivery.recipients) == 1:
        return ()
    return [
        (entry.mailbox, entry.reply)
        for entry in delivery.refused
        if not is_too_many(entry.reply)
    ]


def _may_be_tried_again(reply: Reply) -> bool:
    return reply.is_transient or is_too_many(reply)


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
