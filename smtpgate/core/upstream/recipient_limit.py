"""The limit of recipients in a transaction, as a server's answers to RCPT show it."""

from typing import Final

from smtpgate.core.reply import Reply
from smtpgate.core.upstream.delivery import Answered

_CODES: Final = frozenset({452, 552})


def is_too_many(reply: Reply) -> bool:
    """True if the reply means that the server takes no more recipients in this transaction.

    RFC 5321 §4.5.3.1.10: 452, and 552 of older servers means the same; X.5.3 is RFC 3463's
    code for it. Without that code the text has to say so: 452 and 552 are also the replies for
    full mailboxes and disks.
    """
    detail = reply.enhanced.partition(".")[2]
    if detail == "5.3":
        return True
    return reply.code in _CODES and detail == "0.0" and "recipient" in reply.text.lower()


def recipient_limit(delivery: Answered) -> int | None:
    """The number of recipients after which all others were too many, or ``None``."""
    replies = [entry.reply for entry in delivery.recipients]
    first = next((at for at, reply in enumerate(replies) if is_too_many(reply)), len(replies))
    if first == len(replies) or any(reply.is_positive for reply in replies[first:]):
        return None
    return sum(reply.is_positive for reply in replies[:first]) or None
