"""Topics, subscriptions, notification settings and configuration sets, made in a line."""

from typing import Any

from smtpgate.core.notification.names import read_endpoint
from smtpgate.core.notification.settings import SubscriptionForm
from smtpgate.core.secret import Secret
from smtpgate.directory.configuration_sets import (
    ConfigurationSetRow,
    EventDestinationRow,
    create_configuration_set,
    create_destination,
)
from smtpgate.directory.notifications import (
    NotificationRow,
    notifications_at,
    set_notifications,
)
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.topic_grants import TopicGrantRow, allow_topic
from smtpgate.directory.topics import (
    SubscriptionRow,
    TopicRow,
    create_subscription,
    create_topic,
)
from tests.support.directory import ACTOR
from tests.support.tenants import ACME
from tests.support.world import REGION


async def add_topic(
    store: DirectoryStore, name: str = "bounces", account_id: str = ACME
) -> TopicRow:
    """A topic."""
    async with store.changing(ACTOR) as change:
        return await create_topic(
            change, TopicRow(account_id=account_id, region=REGION, name=name)
        )


async def allow(
    store: DirectoryStore, grantee_id: str, *, topic: str = "bounces", account_id: str = ACME
) -> TopicGrantRow:
    """The permission of another account to use a topic."""
    row = TopicGrantRow(
        account_id=account_id, region=REGION, topic=topic, grantee_id=grantee_id
    )
    async with store.changing(ACTOR) as change:
        await allow_topic(change, row)
    return row


async def subscribe(
    store: DirectoryStore,
    endpoint: str = "https://hooks.example.com/",
    *,
    form: SubscriptionForm = "sns",
    topic: str = "bounces",
    account_id: str = ACME,
    secret: Secret | None = None,
    is_confirmed: bool = False,
    subscription_id: str = "",
) -> SubscriptionRow:
    """A subscription of a topic that is there."""
    row = SubscriptionRow(
        id=subscription_id,
        account_id=account_id,
        region=REGION,
        topic=topic,
        form=form,
        endpoint="",
        is_confirmed=is_confirmed,
    )
    read = read_endpoint(endpoint, form, allow_plaintext=False)
    async with store.changing(ACTOR) as change:
        return await create_subscription(change, store.master_keys, row, read, secret)


async def notify(
    store: DirectoryStore,
    account_id: str = ACME,
    owner_id: str = ACME,
    **columns: Any,  # noqa: ANN401 - by the column
) -> NotificationRow:
    """Notification settings of an account for an identity."""
    key = NotificationRow(
        account_id=account_id, region=REGION, owner_id=owner_id, identity="example.com"
    )
    async with store.changing(ACTOR) as change:
        before = await notifications_at(change.connection, key)
        return await set_notifications(change, before, columns)


async def add_set(
    store: DirectoryStore, name: str = "spring", account_id: str = ACME
) -> ConfigurationSetRow:
    """A configuration set."""
    row = ConfigurationSetRow(account_id=account_id, region=REGION, name=name)
    async with store.changing(ACTOR) as change:
        return await create_configuration_set(change, row)


async def add_destination(
    store: DirectoryStore,
    *types: str,
    name: str = "a",
    topic: str = "bounces",
    account_id: str = ACME,
) -> EventDestinationRow:
    """An event destination of a configuration set that is there."""
    row = EventDestinationRow(
        account_id=account_id,
        region=REGION,
        configuration_set="spring",
        name=name,
        types=types,
        topic=topic,
    )
    async with store.changing(ACTOR) as change:
        return await create_destination(change, row)
