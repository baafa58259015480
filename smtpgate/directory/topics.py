"""Topics and their subscriptions in the directory: create, confirm, delete and list them."""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, or_, select, tuple_

from smtpgate.core.notification.names import (
    MAX_SUBSCRIPTIONS,
    SUBSCRIPTION_OCTETS,
    Endpoint,
    SnsArn,
    subscription_id,
    topic_name,
)
from smtpgate.core.notification.settings import SignatureVersion, SubscriptionForm
from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import account
from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    MissingTopicError,
    NotFoundError,
    RefusedChangeError,
)
from smtpgate.directory.rows import (
    columns_of,
    delete_by_key,
    delete_rows,
    insert_rows,
    must_be_new,
    refusing,
    selects,
    update_row,
)
from smtpgate.directory.schema import (
    audit_log,
    event_destinations,
    identity_notifications,
    subscriptions,
    topic_grants,
    topics,
)
from smtpgate.directory.sealed import must_be_known
from smtpgate.directory.sealing import MasterKeys
from smtpgate.directory.tags import Tagged, drop_all_tags
from smtpgate.directory.topic_grants import grantees_of, topic_place
from smtpgate.sql.asynchronous import AsyncConnection

MAX_TOPICS: Final = 1000  # of an account
_TOKEN_OCTETS: Final = 32
_ASKED: Final = "send-confirmation"
_TOKEN_LASTS: Final = timedelta(days=3)  # as SNS's


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRow:
    """A stored topic."""

    account_id: str
    region: str
    name: str
    signature_version: SignatureVersion = "1"
    display_name: str = ""
    created_at: datetime | None = None

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("topic", self.account_id, self.name)

    @property
    def key(self) -> dict[str, str]:
        """The values of the key columns."""
        return {"account_id": self.account_id, "region": self.region, "name": self.name}

    def arn(self, partition: str) -> str:
        """Its ARN."""
        return str(SnsArn(partition, self.region, self.account_id, self.name))

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        return {
            "signature_version": self.signature_version,
            "display_name": self.display_name,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRow:
    """A stored subscription, with its secrets still sealed."""

    id: str
    account_id: str
    region: str
    topic: str
    form: SubscriptionForm
    endpoint: str
    credentials: bytes | None = field(default=None, repr=False)
    secret: bytes | None = field(default=None, repr=False)
    is_confirmed: bool = False
    token_digest: bytes | None = field(default=None, repr=False)
    token_sent_at: datetime | None = None
    created_at: datetime | None = None
    confirmed_at: datetime | None = None

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries: the topic."""
        return AuditSubject("topic", self.account_id, self.topic)

    def arn(self, partition: str) -> str:
        """Its ARN."""
        return str(SnsArn(partition, self.region, self.account_id, self.topic, self.id))

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        return {
            "subscription": self.id,
            "form": self.form,
            "endpoint": self.endpoint,
            "is_confirmed": self.is_confirmed,
        }


_TOPIC: Final = columns_of(topics, TopicRow)
_SUBSCRIPTION: Final = columns_of(subscriptions, SubscriptionRow)


def credentials_context(row: Any) -> str:  # noqa: ANN401 - a row with an id
    """The context that the credentials of a subscription are sealed for."""
    return f"subscription/{row.id}/credentials"


def webhook_secret_context(row: Any) -> str:  # noqa: ANN401 - a row with an id
    """The context that the secret of a subscription is sealed for."""
    return f"subscription/{row.id}/secret"


# -- topics ------------------------------------------------------------------------------------


async def topic(
    connection: AsyncConnection, account_id: str, region: str, name: str
) -> TopicRow:
    """The topic of that name. Raises NotFoundError."""
    key = {"account_id": account_id, "region": region, "name": name}
    row = (await connection.execute(select(*_TOPIC).where(selects(topics, key)))).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no topic {account_id}/{name} in region {region}")
    return TopicRow(**row._mapping)


async def topic_page(
    connection: AsyncConnection,
    region: str,
    *,
    account_id: str | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> list[TopicRow]:
    """Topics in the order of accounts and names, of one account or all."""
    query = select(*_TOPIC).where(
        topics.c.region == region, tuple_(topics.c.account_id, topics.c.name) > after
    )
    if account_id is not None:
        query = query.where(topics.c.account_id == account_id)
    query = query.order_by(topics.c.account_id, topics.c.name).limit(limit)
    return [TopicRow(**row._mapping) for row in await connection.execute(query)]


async def create_topic(change: Change, row: TopicRow) -> TopicRow:
    """Add a topic. Raises NotFoundError, ConflictError, RefusedChangeError."""
    await account(change.connection, row.account_id)
    with refusing(row.subject):
        topic_name(row.name)
    await must_be_new(change, topics, row.key, row.subject)
    there = select(func.count()).where(topics.c.account_id == row.account_id)
    if ((await change.connection.execute(there)).scalar() or 0) >= MAX_TOPICS:
        raise RefusedChangeError(
            f"account {row.account_id} has {MAX_TOPICS} topics, the most it may"
        )
    (row,) = await add_topics(change, [row])
    return row


async def add_topics(change: Change, rows: Sequence[TopicRow]) -> list[TopicRow]:
    """Add topics that are known to be valid and new."""
    rows = [replace(row, created_at=change.now) for row in rows]
    await insert_rows(change, topics, list(map(asdict, rows)), rows)
    return rows


async def update_topic(
    change: Change, before: TopicRow, changes: Mapping[str, Any]
) -> TopicRow:
    """Change columns of a topic that was read in this transaction."""
    after = replace(before, **changes)
    return await update_row(change, topics, before.key, before, after, action="change")


async def delete_topic(change: Change, row: TopicRow) -> None:
    """Delete a topic with its subscriptions.

    Raises ConflictError when a setting names it.
    """
    for what, is_used in _uses(row):
        found = await change.connection.execute(select(exists().where(is_used)))
        if found.scalar():
            raise ConflictError(f"{row.subject} is used by {what}; take it out of there first")
    await remove_topics(change, [row])


def _uses(row: TopicRow) -> Sequence[tuple[str, ColumnElement[bool]]]:
    its = identity_notifications.c
    destinations = event_destinations.c
    return (
        (
            "the notifications of an identity",
            (its.account_id == row.account_id)
            & (its.region == row.region)
            & or_(
                its.bounce_topic == row.name,
                its.complaint_topic == row.name,
                its.delivery_topic == row.name,
            ),
        ),
        (
            "an event destination of a configuration set",
            (destinations.account_id == row.account_id)
            & (destinations.region == row.region)
            & (destinations.topic == row.name),
        ),
    )


async def remove_topics(change: Change, rows: Sequence[TopicRow]) -> None:
    """Delete topics that are known to exist, with their subscriptions and tags."""
    keys = [row.key for row in rows]
    of_subscriptions = [
        {"account_id": row.account_id, "region": row.region, "topic": row.name} for row in rows
    ]
    await delete_by_key(change, subscriptions, of_subscriptions)
    await delete_by_key(change, topic_grants, of_subscriptions)
    await drop_all_tags(
        change, [Tagged(row.account_id, row.region, "topic", row.name) for row in rows]
    )
    await delete_rows(change, topics, keys, rows)


async def must_have_topic(change: Change, account_id: str, region: str, name: str) -> None:
    """Check that a topic that a setting of an account names is there, and open to it.

    Of another account's topic the error does not say which. Raises MissingTopicError.
    """
    owner_id, own_name = topic_place(account_id, name)
    if owner_id == account_id:
        try:
            _ = await topic(change.connection, account_id, region, own_name)
        except NotFoundError as error:
            raise MissingTopicError(str(error)) from None
    elif account_id not in await grantees_of(change.connection, owner_id, region, own_name):
        raise MissingTopicError(
            f"account {owner_id} has no topic {own_name} in region {region} that is open to "
            f"account {account_id}"
        )


# -- subscriptions -----------------------------------------------------------------------------


async def subscription(connection: AsyncConnection, region: str, arn: str) -> SubscriptionRow:
    """The subscription of that ARN. Raises NotFoundError."""
    try:
        parsed = SnsArn.parse(arn)
    except ValueError:
        parsed = None
    if parsed is not None and parsed.id is not None and parsed.region == region:
        key = {
            "id": parsed.id,
            "account_id": parsed.account_id,
            "region": region,
            "topic": parsed.name,
        }
        query = select(*_SUBSCRIPTION).where(selects(subscriptions, key))
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return SubscriptionRow(**row._mapping)
    raise NotFoundError(f"there is no subscription {arn} in region {region}")


async def subscriptions_of(
    connection: AsyncConnection,
    region: str,
    account_id: str | None = None,
    topic: str | None = None,
) -> list[SubscriptionRow]:
    """Subscriptions by account and topic: all, of an account, or of a topic of it."""
    query = select(*_SUBSCRIPTION).where(subscriptions.c.region == region)
    for column, value in (("account_id", account_id), ("topic", topic)):
        if value is not None:
            query = query.where(subscriptions.c[column] == value)
    order = ("account_id", "topic", "created_at", "id")
    query = query.order_by(*(subscriptions.c[column] for column in order))
    return [SubscriptionRow(**row._mapping) for row in await connection.execute(query)]


async def create_subscription(
    change: Change,
    master_keys: MasterKeys,
    row: SubscriptionRow,
    endpoint: Endpoint,
    secret: Secret | None,
) -> SubscriptionRow:
    """Subscribe an endpoint to a topic that is there; its secrets are sealed.

    Raises ConflictError when the topic has it, RefusedChangeError.
    """
    there = await subscriptions_of(change.connection, row.region, row.account_id, row.topic)
    if any((one.form, one.endpoint) == (row.form, endpoint.url) for one in there):
        raise ConflictError(f"{row.subject} has a subscription of {endpoint.url} already")
    if len(there) >= MAX_SUBSCRIPTIONS:
        raise RefusedChangeError(
            f"{row.subject} has {MAX_SUBSCRIPTIONS} subscriptions, the most it may"
        )
    (made,) = await add_subscriptions(change, master_keys, [(row, endpoint, secret)])
    return made


async def add_subscriptions(
    change: Change,
    master_keys: MasterKeys,
    new: Sequence[tuple[SubscriptionRow, Endpoint, Secret | None]],
) -> list[SubscriptionRow]:
    """Add subscriptions that are known to be valid and new."""
    await must_be_known(change, master_keys)
    rows = []
    for row, endpoint, secret in new:
        named = replace(row, id=row.id or subscription_id(os.urandom(SUBSCRIPTION_OCTETS)))
        credentials = endpoint.credentials
        sealed = replace(
            named,
            endpoint=endpoint.url,
            created_at=change.now,
            confirmed_at=change.now if row.is_confirmed else None,
            credentials=_sealed(master_keys, credentials, credentials_context(named)),
            secret=_sealed(master_keys, secret, webhook_secret_context(named)),
        )
        rows.append(sealed)
    await insert_rows(change, subscriptions, list(map(asdict, rows)), rows, action="subscribe")
    return rows


def _sealed(master_keys: MasterKeys, secret: Secret | None, context: str) -> bytes | None:
    return None if secret is None else master_keys.seal(secret.value.encode(), context)


def opened(master_keys: MasterKeys, row: Any) -> tuple[Secret | None, Secret | None]:  # noqa: ANN401 - a row
    """The credentials and the secret of a subscription. Raises SealError."""
    sealed = (
        (row.credentials, credentials_context(row)),
        (row.secret, webhook_secret_context(row)),
    )
    credentials, secret = (
        None if octets is None else Secret(master_keys.open(octets, context).decode())
        for octets, context in sealed
    )
    return credentials, secret


async def new_token(change: Change, row: SubscriptionRow) -> tuple[SubscriptionRow, Secret]:
    """A token that confirms the subscription, in the place of an earlier one."""
    token = Secret(os.urandom(_TOKEN_OCTETS).hex())
    after = replace(row, token_digest=_digest(token.value), token_sent_at=change.now)
    asked = {"subscription": row.id, "endpoint": row.endpoint}
    await change.note(_ASKED, row.subject, after=asked)
    return await _update(change, row, after, _ASKED), token


async def tokens_sent_since(connection: AsyncConnection, account_id: str, at: datetime) -> int:
    """The number of tokens that an account had sent since then, of deleted ones too."""
    its = audit_log.c
    query = select(func.count()).where(
        its.account_id == account_id,
        its.kind == "topic",
        its.action == _ASKED,
        its.at >= at,
    )
    return int((await connection.execute(query)).scalar_one())


async def end_subscription(
    change: Change, row: SubscriptionRow
) -> tuple[SubscriptionRow, Secret]:
    """Have a subscription wait for a token again, which confirms it."""
    token = Secret(os.urandom(_TOKEN_OCTETS).hex())
    after = replace(
        row,
        is_confirmed=False,
        confirmed_at=None,
        token_digest=_digest(token.value),
        token_sent_at=change.now,
    )
    return await _update(change, row, after, "unsubscribe"), token


async def confirm(change: Change, row: SubscriptionRow) -> SubscriptionRow:
    """Mark a subscription as confirmed."""
    if row.is_confirmed:
        return row
    after = replace(row, is_confirmed=True, token_digest=None, confirmed_at=change.now)
    return await _update(change, row, after, "confirm")


async def confirm_by_token(
    change: Change, region: str, topic: SnsArn, token: str
) -> SubscriptionRow:
    """Confirm the subscription of a topic that has that token. Raises RefusedChangeError."""
    there = await subscriptions_of(change.connection, region, topic.account_id, topic.name)
    digest = _digest(token)
    for row in there:
        if row.token_digest is None or not hmac.compare_digest(row.token_digest, digest):
            continue
        if row.token_sent_at is not None and change.now < row.token_sent_at + _TOKEN_LASTS:
            return await confirm(change, row)
    raise RefusedChangeError(
        "the token confirms no subscription: it is wrong, too old, or was used already"
    )


async def delete_subscription(change: Change, row: SubscriptionRow) -> None:
    """Delete a subscription."""
    await remove_subscriptions(change, [row])


async def remove_subscriptions(change: Change, rows: Sequence[SubscriptionRow]) -> None:
    """Delete subscriptions that are known to exist."""
    keys = [{"id": row.id} for row in rows]
    await delete_rows(change, subscriptions, keys, rows, action="unsubscribe")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def _update(
    change: Change, before: SubscriptionRow, after: SubscriptionRow, action: str
) -> SubscriptionRow:
    return await update_row(
        change, subscriptions, {"id": before.id}, before, after, action=action
    )
