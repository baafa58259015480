"""The settings that concern the events of one message, gathered from the cached answers."""

from collections.abc import Sequence

from smtpgate.core.address import AddressError, parse_mailbox
from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.identity import names_covering
from smtpgate.core.notification.fan_out import destinations_of
from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.settings import (
    NO_NOTIFICATIONS,
    NOTIFICATION_KINDS,
    ConfigurationSet,
    EventSettings,
    NotificationSettings,
    Subscription,
)
from smtpgate.core.outbox.event import SendingEvent, SentMail
from smtpgate.core.outbox.task import Destination
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.suppressing import lists_fed_by


async def event_settings(directory: LiveDirectory, mail: SentMail) -> EventSettings:
    """All settings that concern the events of a message, as they are now.

    Raises DirectoryUnavailableError.
    """
    owner = sender = NO_NOTIFICATIONS
    forwards_for, sender_id = "", mail.account_id
    try:
        arn = IdentityArn.parse(mail.identity)
    except ArnError:
        arn = None  # a message that was rejected before its identity was known
    if arn is not None:
        owner = await directory.notifications(arn.name, arn.account_id, arn.account_id)
        if owner.is_forwarding:
            forwards_for = arn.account_id
        if sender_id != arn.account_id:
            sender = await directory.notifications(arn.name, arn.account_id, sender_id)
            if not forwards_for and await _forwards(directory, mail):
                forwards_for = sender_id
    its_set, name = None, mail.configuration_set
    if not name and arn is not None and arn.account_id == sender_id:
        name = await _default_set(directory, arn)
    if name:
        its_set = await directory.configuration_set(sender_id, name)
    return EventSettings(
        owner=owner,
        sender=sender,
        forwards_for=forwards_for,
        configuration_set=its_set,
        subscriptions=await _subscriptions(directory, (owner, sender), its_set),
    )


async def _default_set(directory: LiveDirectory, arn: IdentityArn) -> str:
    for one in await directory.identities(arn.name):
        if one.owner_id == arn.account_id:
            return one.configuration_set
    return ""


async def _forwards(directory: LiveDirectory, mail: SentMail) -> bool:
    """True if the sender owns the return path, and has what comes there forwarded.

    So a delegate gets feedback by mail although the owner of From has it not forwarded.
    """
    try:
        mailbox = parse_mailbox(mail.source)
    except AddressError:
        return False
    for name in names_covering(mailbox):
        for one in await directory.identities(name):
            if one.is_verified and one.owner_id == mail.account_id:
                its = await directory.notifications(name, mail.account_id, mail.account_id)
                return its.is_forwarding
    return False


async def _subscriptions(
    directory: LiveDirectory,
    settings: Sequence[NotificationSettings],
    its_set: ConfigurationSet | None,
) -> dict[str, tuple[Subscription, ...]]:
    topics = [own.topic(kind) for own in settings for kind in NOTIFICATION_KINDS]
    if its_set is not None:
        topics += (one.topic_arn for one in its_set.destinations)
    found = {}
    for topic in dict.fromkeys(filter(None, topics)):
        arn = SnsArn.parse(topic)
        found[topic] = await directory.subscriptions(arn.account_id, arn.name)
    return found


class DirectorySubscribers:
    """Implements the Subscribers port over a directory."""

    def __init__(self, directory: LiveDirectory) -> None:
        self._directory = directory

    def want_sends(self, account_id: str, identity: str) -> bool:
        """False if no default configuration set can publish that a message is sent.

        An identity that is not cached any more may have one.
        """
        return self._directory.may_publish(account_id, identity)

    async def default_set(self, account_id: str, identity: str) -> str:
        """The configuration set of an account's mail with its identity, or empty."""
        try:
            arn = IdentityArn.parse(identity)
        except ArnError:
            return ""
        return await _default_set(self._directory, arn) if arn.account_id == account_id else ""

    async def pause_of(self, account_id: str, configuration_set: str) -> str | None:
        """The reason why an account's configuration set is paused; empty if nobody gave one.

        ``None`` if it is not paused, or does not exist.
        """
        found = await self._directory.configuration_set(account_id, configuration_set)
        return None if found is None or found.is_sending else found.paused_reason

    async def destinations(self, event: SendingEvent) -> Sequence[Destination]:
        """The destinations of an event. Raises DirectoryUnavailableError."""
        found = destinations_of(event, await event_settings(self._directory, event.mail))
        return (*found, *await self.lists(event))

    async def lists(self, event: SendingEvent) -> Sequence[Destination]:
        """Those of them that are suppression lists. Raises DirectoryUnavailableError."""
        return await lists_fed_by(self._directory, event)
