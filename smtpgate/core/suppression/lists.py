"""Suppression lists: addresses that an account no longer sends to, and why each is there.

https://docs.aws.amazon.com/ses/latest/dg/sending-email-suppression-list.html
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from smtpgate.core.address import POSTMASTER, AddressError, Mailbox, parse_forward_path
from smtpgate.core.feedback.kinds import ON_ACCOUNT_LIST, SUPPRESSED
from smtpgate.core.outbox.event import BounceDetail, ComplaintDetail, SendingEvent

SuppressionReason: TypeAlias = Literal["BOUNCE", "COMPLAINT"]
Reasons: TypeAlias = tuple[SuppressionReason, ...]
# As SES has it for new accounts: both.
ALL_REASONS: Final[Reasons] = get_args(SuppressionReason)
# Bounces of addresses that are on a list already.
_ON_A_LIST: Final = frozenset({ON_ACCOUNT_LIST, SUPPRESSED})


class SuppressedAddress(Struct, frozen=True, gc=False):
    """An address on a list; ``message_id`` is the message that brought it there, or empty."""

    address: str
    reason: SuppressionReason
    added_at: datetime
    message_id: str = ""


class Suppression(Struct, frozen=True, gc=False):
    """The settings of an account for its list.

    An address counts while its reason is one of ``reasons``; bounces and complaints of these
    kinds put addresses there. ``has_addresses`` is true while there is any.
    """

    reasons: Reasons = ALL_REASONS
    has_addresses: bool = False


def listed(mailbox: Mailbox) -> str:
    """The spelling of a mailbox on lists.

    Letter case does not distinguish mailboxes at providers, whatever RFC 5321 §2.4 permits. A
    label does: ``jane+shop@`` may bounce where ``jane@`` does not.
    """
    local_part = mailbox.local_part
    lower = local_part.lower()
    return mailbox.text if lower == local_part else Mailbox(lower, mailbox.domain).text


def read_address(text: str) -> str:
    """An address in the spelling of lists. Raises ValueError."""
    mailbox = parse_forward_path(text)
    if mailbox == POSTMASTER:
        raise AddressError("Missing final '@domain'")
    return listed(mailbox)


def read_reasons(words: Iterable[str]) -> Reasons:
    """The reasons of those names, each once, in SES's order. Raises ValueError."""
    named = [word.strip().upper() for word in words]
    for word in named:
        if word not in ALL_REASONS:
            raise ValueError(f"`{word}' is no reason: it is one of {', '.join(ALL_REASONS)}")
    return tuple(one for one in ALL_REASONS if one in named)


def read_reason(text: str) -> SuppressionReason:
    """The reason of that name, in whatever letter case. Raises ValueError."""
    (reason,) = read_reasons([text])
    return reason


def reason_of(event: SendingEvent) -> SuppressionReason | None:
    """The reason for which an event puts its recipients on a list, or ``None``.

    The mailbox simulator puts nobody there. A ``not-spam`` report (RFC 6430) says that the
    message was wanted.
    """
    if event.is_simulated:
        return None
    match event.detail:
        case BounceDetail(bounce=bounce) if bounce.is_hard and bounce not in _ON_A_LIST:
            return "BOUNCE"
        case ComplaintDetail(feedback_type=feedback_type) if feedback_type != "not-spam":
            return "COMPLAINT"
        case _:
            return None
