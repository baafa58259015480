"""The receivers of an event: by the settings of the owner, of the sender, and of its set.

Both parties' settings count, each for itself:
https://docs.aws.amazon.com/ses/latest/dg/sending-authorization-overview.html
"""

from collections.abc import Iterator

from smtpgate.core.notification.settings import (
    EventSettings,
    NotificationSettings,
    Subscription,
)
from smtpgate.core.outbox.event import EventKind, SendingEvent
from smtpgate.core.outbox.task import Destination, DestinationForm

# SES never forwards deliveries; listmonk has a form for no other event.
_FEEDBACK: frozenset[EventKind] = frozenset({"Bounce", "Complaint"})


def destinations_of(event: SendingEvent, settings: EventSettings) -> tuple[Destination, ...]:
    """The destinations that an event is sent to, each once."""
    found = dict.fromkeys(_by_topics(event, settings))
    if event.kind in _FEEDBACK and event.mail.source:
        account_id = settings.forwards_for
        if not account_id and not found:
            # SES mails feedback that nobody would get otherwise.
            account_id = event.mail.account_id
        if account_id:
            found[Destination("mail", event.mail.source, account_id)] = None
    return tuple(found)


def _by_topics(event: SendingEvent, settings: EventSettings) -> Iterator[Destination]:
    mail = event.mail
    yield from _notified(event, settings, settings.owner, mail.owner_id)
    if mail.account_id != mail.owner_id:
        yield from _notified(event, settings, settings.sender, mail.account_id)
    its_set = settings.configuration_set
    for destination in () if its_set is None else its_set.destinations:
        if event.kind in destination.kinds:
            for one in settings.subscriptions.get(destination.topic_arn, ()):
                yield from _subscribed(event, one, mail.account_id, "event")


def _notified(
    event: SendingEvent, settings: EventSettings, own: NotificationSettings, account_id: str
) -> Iterator[Destination]:
    kind = event.kind
    if kind not in ("Bounce", "Complaint", "Delivery"):
        return
    form: DestinationForm = "notification"
    if own.has_headers(kind):
        form = "notification-with-headers"
    for one in settings.subscriptions.get(own.topic(kind), ()):
        yield from _subscribed(event, one, account_id, form)


def _subscribed(
    event: SendingEvent, one: Subscription, account_id: str, form: DestinationForm
) -> Iterator[Destination]:
    """The destination of a subscription that settings of an account name by its topic.

    Its tasks are those of the account that has the topic: endpoints are nobody else's matter.
    """
    if not one.is_confirmed or not one.may_serve(account_id):
        return
    if one.form == "listmonk" and event.kind not in _FEEDBACK:
        return
    if one.form == "email":
        yield Destination("mail", one.endpoint, one.account_id, form)
    else:
        yield Destination("webhook", one.arn, one.account_id, form)
