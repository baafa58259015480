"""The parts of accounts and identities that are about events and reports of mail.

Each has a key and fields, as other objects of documents. Here are its keys, and its form in
the directory.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import select

from smtpgate.core.notification.settings import NOTIFICATION_KINDS
from smtpgate.core.reputation.sender import RatedObject
from smtpgate.core.suppression.lists import ALL_REASONS
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.schema import (
    configuration_sets,
    event_destinations,
    identities,
    identity_notifications,
    mail_from_domains,
    reputation_settings,
    resource_tags,
    suppression_settings,
    topic_grants,
    topics,
)
from smtpgate.directory.tags import TaggedKind
from smtpgate.sql.asynchronous import AsyncConnection

NO_NOTIFICATIONS: Final[Fields] = {
    **{f"{kind.lower()}_topic": None for kind in NOTIFICATION_KINDS},
    **{f"{kind.lower()}_headers": False for kind in NOTIFICATION_KINDS},
    "is_forwarding": True,
}
# The fields of settings that need no row.
DEFAULTS: Final[Mapping[str, Fields]] = {
    "notifications": NO_NOTIFICATIONS,
    "suppression": {"reasons": ALL_REASONS},
}


def topic_key(account_id: str, region: str, name: str) -> ObjectKey:
    """A topic."""
    return ObjectKey("topic", account_id, region, name)


def set_key(account_id: str, region: str, name: str) -> ObjectKey:
    """A configuration set."""
    return ObjectKey("set", account_id, region, name)


def destination_key(account_id: str, region: str, its_set: str, name: str) -> ObjectKey:
    """An event destination."""
    return ObjectKey("destination", account_id, region, its_set, name)


def default_set_key(account_id: str, region: str, name: str) -> ObjectKey:
    """The default configuration set of an identity."""
    return ObjectKey("default-set", account_id, region, name)


def mail_from_key(account_id: str, region: str, name: str) -> ObjectKey:
    """The MAIL FROM domain of an identity."""
    return ObjectKey("mail-from", account_id, region, name)


def notifications_key(account_id: str, region: str, owner_id: str, name: str) -> ObjectKey:
    """The notifications that an account wants of mail with an identity."""
    return ObjectKey("notifications", account_id, region, name, owner_id)


def suppression_key(account_id: str, region: str) -> ObjectKey:
    """The settings of an account's suppression list."""
    return ObjectKey("suppression", account_id, region)


def rating_key(account_id: str, region: str, kind: RatedObject, name: str) -> ObjectKey:
    """The judgement of mail with a set, or of the delegates on an identity."""
    return ObjectKey("rating", account_id, region, name, kind)


def tags_key(account_id: str, region: str, kind: TaggedKind, name: str) -> ObjectKey:
    """The tags of an identity, a configuration set or a topic."""
    return ObjectKey("tags", account_id, region, name, kind)


def part_owner(key: ObjectKey) -> ObjectKey | None:
    """The topic, set or identity with which a part is deleted, if there is one."""
    place = key.account_id, key.region, key.subject
    if key.kind == "destination":
        return set_key(*place)
    if key.kind in ("rating", "tags"):
        return ObjectKey(key.name, *place)
    is_own = key.kind == "notifications" and key.name == key.account_id
    if is_own or key.kind in ("mail-from", "default-set"):
        return ObjectKey("identity", *place)
    return None


async def read_parts(connection: AsyncConnection, region: str) -> dict[ObjectKey, Fields]:
    """All parts that the directory has in a region."""
    found: dict[ObjectKey, Fields] = {}
    open_to: dict[ObjectKey, list[str]] = {}
    async for row in _rows(connection, topic_grants, region):
        key = topic_key(row.account_id, region, row.topic)
        open_to.setdefault(key, []).append(row.grantee_id)
    async for row in _rows(connection, topics, region):
        key = topic_key(row.account_id, region, row.name)
        grantees = tuple(sorted(open_to.get(key, ())))
        found[key] = {
            "display_name": row.display_name,
            "signature_version": row.signature_version,
            "open_to": grantees,
        }
    async for row in _rows(connection, configuration_sets, region):
        reasons = row.suppressed_reasons
        found[set_key(row.account_id, region, row.name)] = {
            "is_sending": row.is_sending,
            "suppressed_reasons": None if reasons is None else tuple(reasons),
        }
    async for row in _rows(connection, event_destinations, region):
        key = destination_key(row.account_id, region, row.configuration_set, row.name)
        found[key] = {
            "types": tuple(row.types),
            "topic": row.topic,
            "is_enabled": row.is_enabled,
        }
    return found | await _settings(connection, region)


async def _settings(connection: AsyncConnection, region: str) -> dict[ObjectKey, Fields]:
    found: dict[ObjectKey, Fields] = {}
    async for row in _rows(connection, mail_from_domains, region):
        found[mail_from_key(row.account_id, region, row.identity)] = {
            "domain": row.domain,
            "on_mx_failure": row.on_mx_failure,
        }
    async for row in _rows(connection, identity_notifications, region):
        key = notifications_key(row.account_id, region, row.owner_id, row.identity)
        found[key] = {name: getattr(row, name) for name in NO_NOTIFICATIONS}
    async for row in _rows(connection, suppression_settings, region):
        if row.reasons is not None and tuple(row.reasons) != ALL_REASONS:
            found[suppression_key(row.account_id, region)] = {"reasons": tuple(row.reasons)}
    async for row in _rows(connection, reputation_settings, region):
        key = rating_key(row.account_id, region, row.kind, row.name)
        found[key] = {"auto_pause": row.auto_pause}
    tags: dict[ObjectKey, dict[str, str]] = {}
    async for row in _rows(connection, resource_tags, region):
        key = tags_key(row.account_id, region, row.kind, row.name)
        tags.setdefault(key, {})[row.tag] = row.value
    found |= {key: {"tags": its} for key, its in tags.items()}
    with_set = select(
        identities.c.account_id, identities.c.name, identities.c.configuration_set
    ).where(identities.c.region == region, identities.c.configuration_set.is_not(None))
    async with connection.stream(with_set) as rows:
        async for row in rows:
            key = default_set_key(row.account_id, region, row.name)
            found[key] = {"configuration_set": row.configuration_set}
    return found


async def _rows(connection: AsyncConnection, table: Any, region: str) -> Any:  # noqa: ANN401 - rows
    """All rows of a table in a region, a few at a time."""
    query = select(table).where(table.c.region == region)
    async with connection.stream(query, execution_options={"yield_per": 200}) as rows:
        async for row in rows:
            yield row
