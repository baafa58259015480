"""Settings that decide who gets events, read from the database for the cache.

Secrets of subscriptions are opened here. An object that cannot be opened fails as a whole.
"""

from typing import Final, get_args

from sqlalchemy import select

from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.settings import (
    EVENT_TYPES,
    ConfigurationSet,
    EventDestination,
    NotificationSettings,
    Subscription,
)
from smtpgate.core.reputation.sender import RatedSender
from smtpgate.core.suppression.lists import read_reasons
from smtpgate.directory.cache import CacheKey, SettingsKind
from smtpgate.directory.change import NotFoundError
from smtpgate.directory.configuration_sets import configuration_set, destinations_of
from smtpgate.directory.load import Loaded, Loader
from smtpgate.directory.notifications import NotificationRow
from smtpgate.directory.reputations import pause_of
from smtpgate.directory.rows import columns_of
from smtpgate.directory.schema import identity_notifications
from smtpgate.directory.suppression import ListKey, suppression
from smtpgate.directory.topic_grants import grantees_of, topic_place
from smtpgate.directory.topics import opened, subscriptions_of, topic
from smtpgate.sql.asynchronous import AsyncConnection

SETTINGS_KINDS: Final[frozenset[str]] = frozenset(get_args(SettingsKind))
# What the compiled form takes in memory, approximately.
_ENTRY_OCTETS: Final = 1_200
_SUBSCRIPTION_OCTETS: Final = 1_500
_SETTINGS_OCTETS: Final = 800
_MAX_SETTINGS: Final = 10_000
_NOTIFICATIONS: Final = columns_of(identity_notifications, NotificationRow)


def owned(account_id: str, name: str) -> str:
    """The name of an account's topic or configuration set in a cache key."""
    return f"{account_id}/{name}"


async def load_settings(
    connection: AsyncConnection, loader: Loader, key: CacheKey
) -> Loaded[object]:
    """The settings that a key asks for. Raises SealError."""
    if key.kind == "notifications":
        return await _notifications(connection, loader, key.name)
    if key.kind == "suppression":
        found = await suppression(connection, ListKey(key.name, loader.region))
        return Loaded(found, (), _ENTRY_OCTETS)
    account_id, _, name = key.name.partition("/")
    if key.kind == "topic":
        return await _subscriptions(connection, loader, account_id, name)
    return await _configuration_set(connection, loader, account_id, name)


async def _notifications(
    connection: AsyncConnection, loader: Loader, name: str
) -> Loaded[object]:
    """The settings for all identities of a name, by the owner and the account they are of."""
    table = identity_notifications
    query = select(*_NOTIFICATIONS).where(
        table.c.region == loader.region, table.c.identity == name
    )
    found: dict[tuple[str, str], NotificationSettings] = {}
    for row in await connection.execute(query.limit(_MAX_SETTINGS)):
        stored = NotificationRow(**row._mapping)
        found[stored.owner_id, stored.account_id] = _settings(stored, loader)
    return Loaded(found, (), _ENTRY_OCTETS + _SETTINGS_OCTETS * len(found))


def _settings(row: NotificationRow, loader: Loader) -> NotificationSettings:
    def arn(name: str | None) -> str:
        return "" if name is None else _topic_arn(loader, row.account_id, name)

    return NotificationSettings(
        bounce_topic=arn(row.bounce_topic),
        complaint_topic=arn(row.complaint_topic),
        delivery_topic=arn(row.delivery_topic),
        bounce_headers=row.bounce_headers,
        complaint_headers=row.complaint_headers,
        delivery_headers=row.delivery_headers,
        is_forwarding=row.is_forwarding,
    )


async def _subscriptions(
    connection: AsyncConnection, loader: Loader, account_id: str, name: str
) -> Loaded[object]:
    """The subscriptions of a topic; none when there is no such topic."""
    try:
        row = await topic(connection, account_id, loader.region, name)
    except NotFoundError:
        return Loaded((), (), 0)
    rows = await subscriptions_of(connection, loader.region, account_id, name)
    open_to = tuple(await grantees_of(connection, account_id, loader.region, name))
    found = []
    for one in rows:
        credentials, secret = opened(loader.master_keys, one)
        found.append(
            Subscription(
                arn=one.arn(loader.partition),
                topic_arn=row.arn(loader.partition),
                form=one.form,
                endpoint=one.endpoint,
                is_confirmed=one.is_confirmed,
                signature_version=row.signature_version,
                credentials=credentials,
                secret=secret,
                open_to=open_to,
            )
        )
    return Loaded(tuple(found), (), _ENTRY_OCTETS + _SUBSCRIPTION_OCTETS * len(found))


async def _configuration_set(
    connection: AsyncConnection, loader: Loader, account_id: str, name: str
) -> Loaded[object]:
    try:
        row = await configuration_set(connection, account_id, loader.region, name)
    except NotFoundError:
        return Loaded(None, (), 0)
    rows = await destinations_of(connection, loader.region, account_id, name)
    destinations = tuple(
        EventDestination(
            one.name,
            tuple(kind for kind in map(EVENT_TYPES.get, one.types) if kind is not None),
            _topic_arn(loader, account_id, one.topic),
        )
        for one in rows
        if one.is_enabled
    )
    reasons = row.suppressed_reasons
    paused_reason = None
    if not row.is_sending:
        its = RatedSender.with_set(account_id, name)
        paused_reason = await pause_of(connection, loader.region, its)
    found = ConfigurationSet(
        account_id=account_id,
        name=name,
        is_sending=row.is_sending,
        paused_reason=paused_reason or "",
        destinations=destinations,
        suppressed_reasons=None if reasons is None else read_reasons(reasons),
    )
    return Loaded(found, (), _ENTRY_OCTETS + _SETTINGS_OCTETS * len(rows))


def _topic_arn(loader: Loader, account_id: str, name: str) -> str:
    owner_id, own_name = topic_place(account_id, name)
    return str(SnsArn(loader.partition, loader.region, owner_id, own_name))
