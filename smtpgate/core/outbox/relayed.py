"""Reports about recipients whose server sends none: it has no DSN (RFC 3461 §5.2.2)."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from smtpgate.core.message.envelope import Recipient
from smtpgate.core.outbox.event import (
    EventRecipient,
    SendDetail,
    SendingEvent,
    SentMail,
    sending_event,
)
from smtpgate.core.upstream.delivery import Answered, RecipientReply


def wanting_success(
    recipients: Iterable[Recipient], replies: Iterable[RecipientReply]
) -> tuple[Recipient, ...]:
    """The recipients with NOTIFY=SUCCESS that the next server took."""
    wanting = [one for one in recipients if "SUCCESS" in one.notify]
    if not wanting:
        return ()
    taken = {one.mailbox for one in replies if one.reply.is_positive}
    return tuple(one for one in wanting if one.mailbox in taken)


def relayed(
    mail: SentMail, recipients: Sequence[Recipient], taken: Answered, at: datetime
) -> SendingEvent:
    """The event of a report that these recipients were relayed, and no more will be known."""
    known = [
        EventRecipient(
            str(one.mailbox), "relayed", "2.0.0", f"smtp; {taken.reply}", one.orcpt or ""
        )
        for one in recipients
    ]
    return sending_event(at, mail, known, SendDetail())
