"""An event as the journal keeps it: what happened to a message, and to which recipients."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    Detail,
    EventKind,
    EventRecipient,
    SendingEvent,
)

# Of recipients and of each diagnostic, so that a row stays below 100 KB.
MAX_KEPT_RECIPIENTS: Final = 100
_MAX_DIAGNOSTIC: Final = 500


class KeptEvent(Struct, frozen=True, gc=False, kw_only=True):
    """An event without the facts that its message's record has.

    ``number`` counts its recipients, of which the first are in ``recipients``; their addresses
    are empty where the journal keeps no recipients.
    """

    id: str
    message_id: str
    kind: EventKind
    at: datetime
    account_id: str
    user_arn: str = ""
    access_key: str = ""
    identity: str = ""
    owner_id: str = ""
    configuration_set: str = ""
    number: int = 0
    recipients: tuple[EventRecipient, ...] = ()
    detail: Detail
    is_simulated: bool = False

    @property
    def type(self) -> str:
        """The type of a bounce, a complaint or a delay, in Amazon SES's words."""
        return type_of(self.detail)[0]

    @property
    def subtype(self) -> str:
        """The subtype of a bounce or a complaint, in Amazon SES's words."""
        return type_of(self.detail)[1]

    @property
    def facts(self) -> Mapping[str, object]:
        """The facts that only events of its kind have, by name."""
        known = structs.asdict(self.detail)
        return {name: value for name, value in known.items() if name not in _TYPES}

    @property
    def is_hard(self) -> bool:
        """True for a bounce after which no message should be sent there."""
        return isinstance(self.detail, BounceDetail) and self.detail.bounce.is_hard

    @property
    def is_refusal(self) -> bool:
        """True if the message was refused, and the client has the refusal."""
        return isinstance(self.detail, BounceDetail) and self.detail.is_refusal


# The parts of details that the properties of an event have.
_TYPES: Final = frozenset({"bounce", "is_refusal", "feedback_type", "subtype", "delay_type"})


def type_of(detail: Detail) -> tuple[str, str]:
    """The type and the subtype of an event, in Amazon SES's words; empty where it has none."""
    match detail:
        case BounceDetail(bounce=bounce):
            return bounce.type, bounce.subtype
        case ComplaintDetail():
            return detail.feedback_type or "", detail.subtype
        case DelayDetail():
            return detail.delay_type, ""
        case _:
            return "", ""


def kept_recipients(event: SendingEvent, *, with_addresses: bool) -> tuple[EventRecipient, ...]:
    """The recipients of an event as they are kept."""
    kept = [
        structs.replace(one, diagnostic=one.diagnostic[:_MAX_DIAGNOSTIC])
        for one in event.recipients[:MAX_KEPT_RECIPIENTS]
    ]
    if not with_addresses:
        kept = [structs.replace(one, address="", original="") for one in kept]
    return tuple(kept)
