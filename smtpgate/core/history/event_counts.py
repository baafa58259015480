"""Counts of events of messages: bounces, complaints, deliveries, delays, rejects.

They count recipients, at the time of the event. What Amazon SES leaves out of its rates counts
apart: mail to the mailbox simulator, and bounces of addresses on the account's own list.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, structs

from smtpgate.core.feedback.kinds import BOUNCE_KINDS
from smtpgate.core.history.kept_event import type_of
from smtpgate.core.outbox.event import SendingEvent


class EventCounts(Struct, frozen=True, gc=False):
    """Sums of recipients.

    ``hard_bounces`` are permanent. ``refused`` are those bounces whose message was refused as a
    whole, so that no count of accepted messages has them: a rate adds them to what was sent.
    ``uncounted`` are all that no rate counts.
    """

    hard_bounces: int = 0
    soft_bounces: int = 0
    complaints: int = 0
    deliveries: int = 0
    delays: int = 0
    rejects: int = 0
    uncounted: int = 0
    refused: int = 0

    @property
    def bounces(self) -> int:
        """Hard and soft bounces."""
        return self.hard_bounces + self.soft_bounces

    def __add__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(*map(int.__add__, structs.astuple(self), structs.astuple(other)))


class EventFacts(Struct, frozen=True, gc=False):
    """The facts of an event that its counts follow from.

    ``type`` and ``subtype`` are of a bounce, a complaint or a delay, in Amazon SES's words.
    """

    kind: str
    type: str
    subtype: str
    recipients: int
    is_simulated: bool
    is_refusal: bool


_BOUNCES: Final[Mapping[tuple[str, str], str]] = {
    (kind.type, kind.subtype): "hard_bounces" if kind.is_hard else "soft_bounces"
    for kind in BOUNCE_KINDS
}
_OTHERS: Final[Mapping[str, str]] = {
    "Complaint": "complaints",
    "Delivery": "deliveries",
    "DeliveryDelay": "delays",
    "Reject": "rejects",
}
_ON_LIST: Final = "OnAccountSuppressionList"


def counts_of(event: EventFacts) -> EventCounts:
    """The counts that an event adds; none for a Send, which the usage of messages counts."""
    if event.kind == "RenderingFailure":
        return EventCounts(uncounted=max(1, event.recipients))
    if event.kind == "Bounce":
        name = _BOUNCES.get((event.type, event.subtype), "soft_bounces")
    elif event.kind in _OTHERS:
        name = _OTHERS[event.kind]
    else:
        return EventCounts()
    number = max(1, event.recipients)
    if event.is_simulated or event.subtype == _ON_LIST:
        return EventCounts(uncounted=number)
    refused = number if event.is_refusal else 0
    return structs.replace(EventCounts(refused=refused), **{name: number})


def sums_of(events: Iterable[SendingEvent]) -> EventCounts:
    """The sums of events that are not rows yet."""
    return sum((counts_of(_facts(one)) for one in events), EventCounts())


def _facts(event: SendingEvent) -> EventFacts:
    kind, subtype = type_of(event.detail)
    return EventFacts(
        event.kind,
        kind,
        subtype,
        len(event.recipients),
        is_simulated=event.is_simulated,
        is_refusal=event.is_refusal,
    )
