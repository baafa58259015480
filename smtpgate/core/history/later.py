"""The events of a message and their notifications, in plain words."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from smtpgate.core.history.kept_event import KeptEvent
from smtpgate.core.history.record import Record
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    EventKind,
    EventRecipient,
    RejectDetail,
    RenderingFailureDetail,
)
from smtpgate.core.outbox.task import DestinationKind, TaskState
from smtpgate.core.wording import numbered

_MAX_NAMED: Final = 10
_INDENT: Final = "    "
_DESTINATIONS: Final[Mapping[DestinationKind, str]] = {
    "mail": "mail",
    "webhook": "subscription",
    "list": "suppression list",
}


class Notice(Struct, frozen=True, gc=False, kw_only=True):
    """The delivery of an event to one destination.

    ``account_id`` is the account whose setting made the destination. ``due_at`` is the next
    attempt of one that waits, ``done_at`` the end of one that was sent or given up. ``answer``
    is the last one.
    """

    task_id: str
    event_id: str
    kind: EventKind
    recipients: tuple[str, ...]
    destination_kind: DestinationKind
    destination: str
    account_id: str
    state: TaskState
    due_at: datetime
    done_at: datetime | None
    attempts: int
    answer: str


class Later(Struct, frozen=True, gc=False):
    """All that came after the verdict on a message, as one viewer may see it."""

    events: tuple[KeptEvent, ...] = ()
    notices: tuple[Notice, ...] = ()


def seen_later(later: Later, record: Record, account_id: str) -> Later:
    """The parts that an account may see of a message that it may see.

    Nobody sees the destinations of another account, and only the sender its own access key
    and configuration set.
    """
    events = later.events
    if account_id != record.account_id:
        events = tuple(
            structs.replace(one, access_key="", configuration_set="") for one in events
        )
    return Later(events, tuple(one for one in later.notices if one.account_id == account_id))


def event_lines(record: Record, events: Sequence[KeptEvent]) -> Iterator[str]:
    """The events in order of time, after the acceptance by the upstream."""
    if record.outcome == "accepted" and record.done_at is not None:
        yield f"{_time(record.done_at)} handed over to {record.upstream or 'the upstream'}"
        if not events:
            yield "No report about it has come back."
    for event in events:
        yield from _event(event)


def _event(event: KeptEvent) -> Iterator[str]:
    simulated = ", by the mailbox simulator" if event.is_simulated else ""
    yield f"{_time(event.at)} {_happened(event)}{simulated}: {_recipients(event)}"
    said = list(dict.fromkeys(filter(None, map(_said, event.recipients))))
    yield from (f"{_INDENT}{one}" for one in said[:_MAX_NAMED])
    yield from (f"{_INDENT}{_line(one)}" for one in _details(event) if one)


_PLAIN: Final[Mapping[type[Struct], str]] = {
    DeliveryDetail: "delivered",
    RenderingFailureDetail: "not sent, because its template could not be rendered",
}


def _happened(event: KeptEvent) -> str:
    match event.detail:
        case BounceDetail(bounce=kind, is_refusal=is_refusal):
            how = "refused with the message" if is_refusal else "bounced"
            return f"{how} ({kind.type}, {kind.subtype})"
        case ComplaintDetail(feedback_type=kind):
            return f"complained ({kind})" if kind else "complained"
        case DelayDetail(delay_type=kind):
            return f"delayed ({kind})"
        case RejectDetail(reason=reason):
            return f"rejected ({_line(reason)})"
        case _:
            return _PLAIN.get(type(event.detail), event.kind.lower())


def _details(event: KeptEvent) -> tuple[str, ...]:
    """The facts of an event that are about all of its recipients."""
    match event.detail:
        case BounceDetail(reporting_mta=mta) | DelayDetail(reporting_mta=mta, expires_at=None):
            return (f"reported by {mta}" if mta else "",)
        case DelayDetail(reporting_mta=mta, expires_at=expires_at):
            until = f"tried until {_time(expires_at)}" if expires_at else ""
            return (f"reported by {mta}" if mta else "", until)
        case ComplaintDetail(user_agent=agent):
            return (f"reported by {agent}" if agent else "",)
        case RenderingFailureDetail(error_message=problem, template_name=name):
            return (f"template {name}: {problem}" if name else problem,)
        case DeliveryDetail(smtp_response=response):
            return (response,)
        case _:
            return ()


def _recipients(event: KeptEvent) -> str:
    named = [one.address for one in event.recipients[:_MAX_NAMED] if one.address]
    if not named:
        return f"{numbered(event.number, 'recipients')} (addresses are not kept)"
    left = event.number - len(named)
    return ", ".join(named) + (f" and {left} more" if left > 0 else "")


def _said(one: EventRecipient) -> str:
    """The status and the words about a recipient; words may contain the status."""
    words = _line(one.diagnostic).removeprefix("smtp; ")
    if one.status and one.status not in words:
        return f"{one.status} {words}".rstrip()
    return words


def notice_lines(notices: Sequence[Notice]) -> Iterator[str]:
    """The notifications, each with its state and the last answer."""
    for one in notices:
        about = f"{one.kind} of {_named(one.recipients)}" if one.recipients else one.kind
        to = f"{_DESTINATIONS[one.destination_kind]} {one.destination}"
        yield f"{about} to {to}: {_state(one)}"
        if one.answer:
            yield f"{_INDENT}{_line(one.answer)}"


def _named(recipients: Sequence[str]) -> str:
    left = len(recipients) - _MAX_NAMED
    shown = ", ".join(recipients[:_MAX_NAMED])
    return f"{shown} and {left} more" if left > 0 else shown


def _state(one: Notice) -> str:
    attempts = f"after {numbered(one.attempts, 'attempts')}"
    if one.state == "waiting":
        due = f"waiting, next attempt {_time(one.due_at)}"
        return f"{due} {attempts}" if one.attempts else due
    if one.state == "provisional":
        return "noted until the verdict on the message"
    word = "sent" if one.state == "sent" else "given up"
    done = "" if one.done_at is None else f" {_time(one.done_at)}"
    return f"{word}{done} {attempts}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


def _line(text: str) -> str:
    """A stranger's text as a part of one line."""
    return " ".join(text.split())
