"""Verdicts: the refusal that a delivery amounts to, and the words of a refusal."""

from collections.abc import Sequence
from typing import Final, assert_never

from smtpgate.core.address import Mailbox
from smtpgate.core.reason import REASONS
from smtpgate.core.reply import CATALOGUE, Reject, Reply
from smtpgate.core.upstream import (
    Answered,
    Delivery,
    InDoubt,
    NotSent,
    RecipientReply,
    is_too_many,
)

_MAX_DETAIL: Final = 300
_MAX_NAMED: Final = 5


def is_gates_own(refusal: Reject) -> bool:
    """True if the gate itself, not the upstream, refuses the message permanently.

    A reason that lasts counts as permanent, whatever the code of its reply.
    """
    reason = REASONS[refusal.reason]
    return reason.is_lasting or (refusal.reply.is_permanent and not reason.is_upstreams)


def refusal_of(delivery: Delivery) -> Reject | None:
    """The refusal that a delivery amounts to; ``None`` when the upstream took the message."""
    match delivery:
        case Answered():
            return None if delivery.is_accepted else _refusal_of_upstream(delivery)
        case InDoubt(problem):
            return Reject.of("in-doubt", problem)
        case NotSent(reason, problem):
            return Reject.of(reason, problem)
        case _:
            assert_never(delivery)


def _refusal_of_upstream(delivery: Answered) -> Reject:
    """The reply of the upstream, or of the gate when the recipients have several.

    When all recipients were refused for good, the upstream's reply is passed on, as it is for
    the only recipient. Otherwise the client may try again: the message has one reply, and it
    must not be lost for the recipients that were not refused (RFC 5321 §4.2.1 for the classes
    of codes).
    """
    refused = delivery.refused
    if not refused or delivery.is_in_part:
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
    return Reject.of(kind, refused=shown)


def answers_at_next_try(
    delivery: Answered, *, only_deferred: bool
) -> Sequence[tuple[Mailbox, Reply]]:
    """The refused recipients of a message that the client sends again, each with its answer.

    A recipient beyond the number that the server takes at once is not refused itself. With
    ``only_deferred``, those that were refused for good go to the upstream again, and bounce.
    """
    if delivery.is_accepted or len(delivery.recipients) == 1:
        return ()
    return [
        (entry.mailbox, entry.reply)
        for entry in delivery.refused
        if not is_too_many(entry.reply) and (entry.reply.is_transient or not only_deferred)
    ]


def bounced_at_once(delivery: Delivery, refusal: Reject) -> tuple[RecipientReply, ...]:
    """The recipients for which a message was refused for good; the client will not try again.

    An answer to the message itself is about a recipient only if that is the only one left.
    """
    if not refusal.reply.is_permanent or not isinstance(delivery, Answered):
        return ()
    bounced = [one for one in delivery.refused if not _may_be_tried_again(one.reply)]
    taken = [one for one in delivery.recipients if one.reply.is_positive]
    if len(taken) == 1:
        bounced.append(RecipientReply(taken[0].mailbox, delivery.reply))
    return tuple(bounced)


def _may_be_tried_again(reply: Reply) -> bool:
    return reply.is_transient or is_too_many(reply)


def worded(refusal: Reject, message_id: str) -> Reply:
    """The reply to the client: the text, then the reason, the detail and the id.

    A detail of the gate's insides is left out; the id leads to it in the log and the journal.
    """
    return refusal.reply.with_text(f"{refusal.reply.text} ({_why(refusal)}; {message_id})")


def last_word(refusal: Reject) -> Reply:
    """The 421 that ends a session whose access key or account would be refused so by now."""
    reply = CATALOGUE[REASONS[refusal.reason].last_word]
    return reply.with_text(f"{reply.text} ({_why(refusal)})")


def _why(refusal: Reject) -> str:
    detail = "" if REASONS[refusal.reason].is_inner else refusal.detail
    if len(detail) > _MAX_DETAIL:
        detail = detail[: _MAX_DETAIL - 3] + "..."
    return f"{refusal.reason}: {detail}" if detail else refusal.reason
