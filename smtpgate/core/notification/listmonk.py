"""The form of listmonk's generic bounce webhook.

https://listmonk.app/docs/bounces/
"""

import json
from typing import Final, Literal

from smtpgate.core.notification.mail import first_values
from smtpgate.core.notification.ses_json import notification
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    EventRecipient,
    SendingEvent,
)

CONTENT_TYPE: Final = "application/json"
_SOURCE: Final = "smtpgate"
# listmonk puts its campaign and subscriber into fields of the message.
_CAMPAIGN: Final = "x-listmonk-campaign"
_SUBSCRIBER: Final = "x-listmonk-subscriber"


def listmonk_form(event: SendingEvent, recipient: EventRecipient) -> str:
    """The form for one recipient of a bounce or complaint, of which it has no list.

    ``meta`` has the whole notification.
    """
    first = first_values(event.mail)
    known = {"subscriber_uuid": _SUBSCRIBER, "campaign_uuid": _CAMPAIGN}
    form = {name: first[field] for name, field in known.items() if field in first}
    return json.dumps(
        {
            **form,
            "email": recipient.address,
            "source": _SOURCE,
            "type": _type(event),
            "meta": notification(event, with_headers=False),
        },
        separators=(",", ":"),
    )


def _type(event: SendingEvent) -> Literal["hard", "soft", "complaint"]:
    match event.detail:
        case BounceDetail(bounce=bounce):
            return "hard" if bounce.is_hard else "soft"
        case ComplaintDetail():
            return "complaint"
    raise ValueError(f"listmonk has no form for events of the kind {event.kind}")
