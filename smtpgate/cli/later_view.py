"""Events and notifications of a message as programs see them."""

from collections.abc import Mapping

from smtpgate.core.history.kept_event import KeptEvent
from smtpgate.core.history.later import Later, Notice


def later_fields(later: Later) -> Mapping[str, object]:
    """The events and the notifications of a message."""
    return {
        "events": [_event(one) for one in later.events],
        "notifications": [_notice(one) for one in later.notices],
    }


def _event(one: KeptEvent) -> Mapping[str, object]:
    return {
        "id": one.id,
        "kind": one.kind,
        "at": one.at,
        "type": one.type or None,
        "subtype": one.subtype or None,
        "hard": one.is_hard,
        "refused_with_message": one.is_refusal,
        "simulated": one.is_simulated,
        "recipients": one.number,
        "rcpt_to": [
            {
                "address": recipient.address or None,
                "status": recipient.status or None,
                "diagnostic": recipient.diagnostic or None,
            }
            for recipient in one.recipients
        ],
        "detail": {name: value or None for name, value in one.facts.items()},
        "configuration_set": one.configuration_set or None,
    }


def _notice(one: Notice) -> Mapping[str, object]:
    return {
        "task": one.task_id,
        "event": one.event_id,
        "kind": one.kind,
        "destination_kind": one.destination_kind,
        "destination": one.destination,
        "account": one.account_id,
        "state": one.state,
        "due_at": one.due_at if one.state == "waiting" else None,
        "done_at": one.done_at,
        "attempts": one.attempts,
        "answer": one.answer or None,
    }
