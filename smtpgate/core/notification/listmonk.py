"""The form of listmonk's generic bounce webhook: one call for each recipient.

https://listmonk.app/docs/bounces/
"""

import json
from collections.abc import Iterable
from typing import Final

from smtpgate.core.notification.details import BounceDetails, ComplaintDetails, EventDetails
from smtpgate.core.notification.mail import Mail
from smtpgate.core.notification.ses_json import notification

CONTENT_TYPE: Final = "application/json"
_SOURCE: Final = "smtpgate"
_CAMPAIGN: Final = "x-listmonk-campaign"
_SUBSCRIBER: Final = "x-listmonk-subscriber"


def listmonk_forms(mail: Mail, details: EventDetails) -> tuple[str, ...]:
    """A form for each recipient of a bounce or complaint; nothing of other events.

    listmonk puts its campaign and subscriber into fields of the message. ``meta`` has the whole
    notification.
    """
    kind, addresses = _kind(details)
    if kind is None:
        return ()
    fields = {name.lower(): value for name, value in mail.headers}
    known = {
        "subscriber_uuid": fields.get(_SUBSCRIBER),
        "campaign_uuid": fields.get(_CAMPAIGN),
    }
    meta = notification(mail, details, with_headers=False)
    return tuple(
        json.dumps(
            {
                **{name: value for name, value in known.items() if value},
                "email": address,
                "source": _SOURCE,
                "type": kind,
                "meta": meta,
            }
        )
        for address in addresses
    )


def _kind(details: EventDetails) -> tuple[str | None, Iterable[str]]:
    if isinstance(details, BounceDetails):
        kind = "hard" if details.type == "Permanent" else "soft"
        return kind, [recipient.address for recipient in details.recipients]
    if isinstance(details, ComplaintDetails):
        return "complaint", details.recipients
    return None, ()
