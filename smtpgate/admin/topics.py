"""Topics and their subscriptions: what receives notifications and events.

A subscription gets nothing before it is confirmed: by the token that was sent to its endpoint,
or by an operator's word. So the gate cannot be made to call or mail those who never asked.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Final, Protocol

from smtpgate.admin import notices
from smtpgate.admin.errors import ConfirmationNotSentError, RefusedChangeError
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import SubscriptionRef, TopicRef
from smtpgate.admin.session import Operator, Session
from smtpgate.core.notification.names import Endpoint, SnsArn, read_endpoint
from smtpgate.core.notification.names import display_name as read_display_name
from smtpgate.core.notification.settings import (
    SignatureVersion,
    Subscription,
    SubscriptionForm,
    SubscriptionState,
)
from smtpgate.core.notification.standard_webhooks import (
    SECRET_OCTETS,
    read_webhook_secret,
    webhook_secret,
)
from smtpgate.core.secret import Secret
from smtpgate.core.tag import read_tags
from smtpgate.directory import topic_grants
from smtpgate.directory import topics as rows
from smtpgate.directory.change import Change
from smtpgate.directory.rows import refusing
from smtpgate.directory.tags import Tagged, put_tags
from smtpgate.directory.topic_grants import TopicGrantRow
from smtpgate.directory.topics import SubscriptionRow, TopicRow

# An account could have the gate mail and call any number of strangers otherwise.
_MAX_TOKENS_A_DAY: Final = 100
_NAMED: Final = attrgetter("account_id", "name")


class Confirmer(Protocol):
    """Sends tokens to the endpoints of subscriptions."""

    async def send(self, subscription: Subscription, token: Secret) -> str | None:
        """Send it once; why that failed, or ``None``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDetails:
    """A topic, with the number of its subscriptions.

    ``open_to`` are the other accounts whose settings may name it.
    """

    arn: str
    account_id: str
    name: str
    signature_version: SignatureVersion
    display_name: str
    subscriptions: int
    open_to: tuple[str, ...]
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionDetails:
    """A subscription; ``has_credentials`` is whether calls have Basic authentication."""

    arn: str
    topic_arn: str
    form: SubscriptionForm
    endpoint: str
    has_credentials: bool
    state: SubscriptionState
    created_at: datetime | None
    confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription with its secret, which is shown this once; ``None`` but for raw ones.

    ``problem`` is why its token did not reach it.
    """

    details: SubscriptionDetails
    secret: Secret | None = field(repr=False)
    problem: str | None = None


# -- topics ------------------------------------------------------------------------------------


async def create(
    session: Session,
    ref: TopicRef,
    signature_version: SignatureVersion = "1",
    *,
    display_name: str = "",
    tags: Mapping[str, str] | None = None,
) -> TopicDetails:
    """Make a topic, with that name for people and those tags."""
    arn = session.topic_arn(ref)
    session.must_be_allowed("CreateTopic", arn)
    if tags:
        session.must_be_allowed("TagTopic", arn)
        with refusing("Tags"):
            read_tags(tags.items())
    row = TopicRow(
        account_id=ref.account_id,
        region=session.region,
        name=ref.name,
        signature_version=signature_version,
        display_name=_read_display_name(display_name),
    )
    async with session.changing() as change:
        row = await rows.create_topic(change, row)
        if tags:
            await put_tags(change, Tagged(row.account_id, row.region, "topic", row.name), tags)
        return _details(session, row, 0)


async def update(
    session: Session,
    ref: TopicRef,
    signature_version: SignatureVersion | None = None,
    *,
    display_name: str | None = None,
) -> TopicDetails:
    """Set the version of the signatures of a topic's envelopes, or its name for people."""
    session.must_be_allowed("UpdateTopic", session.topic_arn(ref))
    changes: dict[str, object] = {}
    if signature_version is not None:
        changes["signature_version"] = signature_version
    if display_name is not None:
        changes["display_name"] = _read_display_name(display_name)
    async with session.changing() as change:
        row = await _topic(session, change, ref)
        row = await rows.update_topic(change, row, changes)
        grantees = await topic_grants.grantees_of(change.connection, *_place(session, ref))
        return _details(session, row, len(await _subscriptions(session, change, ref)), grantees)


def _read_display_name(text: str) -> str:
    with refusing("DisplayName"):
        return read_display_name(text)


async def pages(
    session: Session,
    account_id: str | None = None,
    *,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> AsyncIterator[Sequence[TopicDetails]]:
    """Topics by account and name, behind ``after``."""
    account_id = session.account_to_list(
        "ListTopics", account_id, lambda own: session.topic_arn(TopicRef(own, "*"))
    )

    read = partial(rows.topic_page, region=session.region, account_id=account_id)
    async for page in rows_in_pages(session, read, after, _NAMED, limit):
        async with session.store.reading() as connection:
            found = await rows.subscriptions_of(connection, session.region, account_id)
            grants = await topic_grants.grants_of(connection, session.region, account_id)
        open_to: dict[tuple[str, str], list[str]] = {}
        for grant in grants:
            open_to.setdefault((grant.account_id, grant.topic), []).append(grant.grantee_id)
        counts: dict[tuple[str, str], int] = {}
        for one in found:
            key = one.account_id, one.topic
            counts[key] = counts.get(key, 0) + 1
        keys = [(row.account_id, row.name) for row in page]
        yield [
            _details(session, row, counts.get(key, 0), open_to.get(key, ()))
            for key, row in zip(keys, page, strict=True)
        ]


async def get(
    session: Session, ref: TopicRef
) -> tuple[TopicDetails, Sequence[SubscriptionDetails]]:
    """A topic and its subscriptions."""
    session.must_be_allowed("GetTopic", session.topic_arn(ref))
    async with session.store.reading() as connection:
        row = await rows.topic(connection, ref.account_id, session.region, ref.name)
        found = await rows.subscriptions_of(
            connection, session.region, ref.account_id, ref.name
        )
        grantees = await topic_grants.grantees_of(connection, *_place(session, ref))
    return (
        _details(session, row, len(found), grantees),
        [_subscription_details(session, one) for one in found],
    )


async def allow(session: Session, ref: TopicRef, account_id: str) -> None:
    """Let the settings of another account name a topic. Raises ConflictError if they may."""
    session.must_be_allowed("AllowTopic", session.topic_arn(ref))
    async with session.changing() as change:
        row = await _topic(session, change, ref)
        await topic_grants.allow_topic(change, _grant(row, account_id))


async def disallow(session: Session, ref: TopicRef, account_id: str) -> None:
    """Let the settings of another account name a topic no more: it gets nothing by them."""
    session.must_be_allowed("DisallowTopic", session.topic_arn(ref))
    async with session.changing() as change:
        row = await _topic(session, change, ref)
        await topic_grants.disallow_topic(change, _grant(row, account_id))


def _grant(row: TopicRow, account_id: str) -> TopicGrantRow:
    return TopicGrantRow(
        account_id=row.account_id, region=row.region, topic=row.name, grantee_id=account_id
    )


def named(session: Session, account_id: str, text: str) -> str:
    """The text with which a setting of an account names a topic: its name, or of another's.

    ``text`` is a name, ACCOUNT/NAME, or an ARN of this gate's region. Raises
    RefusedChangeError.
    """
    if not text.startswith("arn:"):
        return topic_grants.topic_text(account_id, *topic_grants.topic_place(account_id, text))
    with refusing("topic"):
        arn = SnsArn.parse(text)
    if arn.id is not None or (arn.region, arn.partition) != (session.region, session.partition):
        raise RefusedChangeError(f"{text} is no topic of this gate's region {session.region}")
    return topic_grants.topic_text(account_id, arn.account_id, arn.name)


def place_of(account_id: str, text: str) -> TopicRef:
    """The topic that a setting of an account names."""
    return TopicRef(*topic_grants.topic_place(account_id, text))


async def delete(session: Session, ref: TopicRef) -> None:
    """Delete a topic with its subscriptions. Raises ConflictError while a setting names it."""
    session.must_be_allowed("DeleteTopic", session.topic_arn(ref))
    async with session.changing() as change:
        await rows.delete_topic(change, await _topic(session, change, ref))


async def _topic(session: Session, change: Change, ref: TopicRef) -> TopicRow:
    return await rows.topic(change.connection, ref.account_id, session.region, ref.name)


async def _subscriptions(
    session: Session, change: Change, ref: TopicRef
) -> Sequence[SubscriptionRow]:
    return await rows.subscriptions_of(
        change.connection, session.region, ref.account_id, ref.name
    )


def _place(session: Session, ref: TopicRef) -> tuple[str, str, str]:
    return ref.account_id, session.region, ref.name


def _details(
    session: Session, row: TopicRow, subscriptions: int, open_to: Sequence[str] = ()
) -> TopicDetails:
    return TopicDetails(
        arn=row.arn(session.partition),
        account_id=row.account_id,
        name=row.name,
        signature_version=row.signature_version,
        display_name=row.display_name,
        subscriptions=subscriptions,
        open_to=tuple(open_to),
        created_at=row.created_at,
    )


# -- subscriptions -----------------------------------------------------------------------------


async def subscribe(
    session: Session,
    ref: TopicRef,
    form: SubscriptionForm,
    endpoint: str,
    confirmer: Confirmer,
    *,
    secret: Secret | None = None,
    is_trusted: bool = False,
) -> NewSubscription:
    """Subscribe a URL or an address, and send it a token that confirms the subscription.

    With ``is_trusted`` it is confirmed at once. ``secret`` is the receiver's own, for a raw
    subscription; without it, it gets a new one.
    """
    arn = session.topic_arn(ref)
    session.must_be_allowed("Subscribe", arn)
    if is_trusted:
        session.must_be_allowed("VouchForSubscription", arn)
    read = _checked(session, form, endpoint, is_trusted=is_trusted)
    secret = _secret(form, secret)
    new = SubscriptionRow(
        id="",
        account_id=ref.account_id,
        region=session.region,
        topic=ref.name,
        form=form,
        endpoint=read.url,
        is_confirmed=is_trusted,
    )
    async with session.changing() as change:
        _ = await _topic(session, change, ref)
        row = await rows.create_subscription(
            change, session.store.master_keys, new, read, secret
        )
    problem = None if is_trusted else await _send_token(session, row, confirmer)
    return NewSubscription(_subscription_details(session, row), secret, problem)


def _checked(
    session: Session, form: SubscriptionForm, endpoint: str, *, is_trusted: bool
) -> Endpoint:
    settings = session.config.notifications
    if form == "sns" and settings.base_url is None:
        raise RefusedChangeError(
            "subscriptions in SNS's form need notifications.base_url: the URLs of the "
            "certificate and of the confirmation begin with it"
        )
    if form == "listmonk" and not is_trusted:
        raise RefusedChangeError(
            "listmonk cannot confirm a subscription: an operator has to trust it"
        )
    with refusing(f"endpoint `{endpoint.rpartition('@')[2]}'"):
        return read_endpoint(endpoint, form, allow_plaintext=settings.allow_plaintext)


def _secret(form: SubscriptionForm, secret: Secret | None) -> Secret | None:
    if form != "raw":
        if secret is not None:
            raise RefusedChangeError("only a raw subscription has a secret")
        return None
    if secret is None:
        return webhook_secret(os.urandom(SECRET_OCTETS))
    with refusing("secret"):
        return read_webhook_secret(secret.value)


async def resend(session: Session, ref: SubscriptionRef, confirmer: Confirmer) -> None:
    """Send another token, in the place of the one before. Raises ConfirmationNotSentError."""
    session.must_be_allowed("Subscribe", session.topic_arn(ref.topic))
    async with session.store.reading() as connection:
        row = await rows.subscription(connection, session.region, ref.arn)
    if row.is_confirmed:
        raise RefusedChangeError(f"{ref.arn} is confirmed already")
    problem = await _send_token(session, row, confirmer)
    if problem is not None:
        raise ConfirmationNotSentError(problem)


async def _send_token(
    session: Session, row: SubscriptionRow, confirmer: Confirmer
) -> str | None:
    """Send a new token; why that failed, or ``None``. Raises RefusedChangeError."""
    async with session.changing() as change:
        await _may_send_token(session, change, row.account_id)
        row, token = await rows.new_token(change, row)
        topic = await rows.topic(change.connection, row.account_id, row.region, row.topic)
    credentials, secret = rows.opened(session.store.master_keys, row)
    subscription = Subscription(
        arn=row.arn(session.partition),
        topic_arn=topic.arn(session.partition),
        form=row.form,
        endpoint=row.endpoint,
        signature_version=topic.signature_version,
        credentials=credentials,
        secret=secret,
    )
    return await confirmer.send(subscription, token)


async def _may_send_token(session: Session, change: Change, account_id: str) -> None:
    day_ago = session.now() - timedelta(days=1)
    sent = await rows.tokens_sent_since(change.connection, account_id, day_ago)
    if sent >= _MAX_TOKENS_A_DAY and not isinstance(session.caller, Operator):
        raise RefusedChangeError(
            f"{sent} confirmations of subscriptions were sent within 24 hours; "
            "try again tomorrow"
        )


async def confirm(session: Session, topic: TopicRef, token: Secret) -> SubscriptionDetails:
    """Confirm the subscription of a topic whose endpoint got that token."""
    arn = session.topic_arn(topic)
    session.must_be_allowed("ConfirmSubscription", arn)
    async with session.changing() as change:
        row = await rows.confirm_by_token(
            change, session.region, SnsArn.parse(arn), token.value
        )
    return _subscription_details(session, row)


async def trust(session: Session, ref: SubscriptionRef) -> SubscriptionDetails:
    """Confirm a subscription by an operator's word."""
    session.must_be_allowed("VouchForSubscription", session.topic_arn(ref.topic))
    async with session.changing() as change:
        row = await rows.subscription(change.connection, session.region, ref.arn)
        return _subscription_details(session, await rows.confirm(change, row))


async def subscriptions(
    session: Session, account_id: str | None = None
) -> Sequence[SubscriptionDetails]:
    """Subscriptions by account and topic."""
    account_id = session.account_to_list(
        "ListSubscriptions", account_id, lambda own: session.topic_arn(TopicRef(own, "*"))
    )
    async with session.store.reading() as connection:
        found = await rows.subscriptions_of(connection, session.region, account_id)
    return [_subscription_details(session, one) for one in found]


async def get_subscription(session: Session, ref: SubscriptionRef) -> SubscriptionDetails:
    """A subscription."""
    session.must_be_allowed("ListSubscriptions", session.topic_arn(ref.topic))
    async with session.store.reading() as connection:
        row = await rows.subscription(connection, session.region, ref.arn)
    return _subscription_details(session, row)


async def unsubscribe(session: Session, ref: SubscriptionRef) -> None:
    """Delete a subscription."""
    session.must_be_allowed("Unsubscribe", session.topic_arn(ref.topic))
    async with session.changing() as change:
        row = await rows.subscription(change.connection, session.region, ref.arn)
        await rows.delete_subscription(change, row)


async def end(session: Session, ref: SubscriptionRef) -> None:
    """End a subscription by its receiver's word.

    In SNS's form it gets a token that restores it within three days, and nothing else; another
    one is deleted. Raises NoticeNotKeptError.
    """
    session.must_be_allowed("Unsubscribe", session.topic_arn(ref.topic))
    token: Secret | None = None
    async with session.changing() as change:
        row = await rows.subscription(change.connection, session.region, ref.arn)
        if not row.is_confirmed:
            raise RefusedChangeError(f"{ref.arn} is not confirmed")
        if row.form == "sns":
            row, token = await rows.end_subscription(change, row)
        else:
            await rows.delete_subscription(change, row)
    if token is not None:
        await notices.confirm_end(session, row, token)


def _subscription_details(session: Session, row: SubscriptionRow) -> SubscriptionDetails:
    arn = row.arn(session.partition)
    return SubscriptionDetails(
        arn=arn,
        topic_arn=arn.rpartition(":")[0],
        form=row.form,
        endpoint=row.endpoint,
        has_credentials=row.credentials is not None,
        state="confirmed" if row.is_confirmed else "pending",
        created_at=row.created_at,
        confirmed_at=row.confirmed_at,
    )
