"""Notification settings of identities: the owner's own, and a delegate's for the same identity.

A delegate names the owner's identity by its ARN. It has no forwarding, and learns nothing of
whether that identity exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smtpgate.admin import notices
from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Operator, Session
from smtpgate.admin.topics import named, place_of
from smtpgate.core.arn import IdentityArn
from smtpgate.core.notification.settings import NOTIFICATION_KINDS, NotificationKind
from smtpgate.directory import configuration_sets, identities
from smtpgate.directory import notifications as rows
from smtpgate.directory.notifications import NotificationRow


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationDetails:
    """The settings of an account for an identity; topics by their names.

    ``is_forwarding`` and ``configuration_set`` are ``None`` in a delegate's.
    """

    identity_arn: str
    account_id: str
    topics: Mapping[NotificationKind, str | None]
    headers: Mapping[NotificationKind, bool]
    is_forwarding: bool | None
    configuration_set: str | None


async def get(
    session: Session, ref: IdentityRef, account_id: str | None = None
) -> NotificationDetails:
    """The settings of an account for an identity: the caller's, of an operator the owner's."""
    account_id = _account(session, ref, account_id)
    session.must_be_allowed("GetIdentityNotifications", _resource(session, ref, account_id))
    key = _key(session, ref, account_id)
    async with session.store.reading() as connection:
        default = None
        if key.is_owner_s:
            row = await identities.identity(
                connection, ref.account_id, session.region, ref.name
            )
            default = row.configuration_set
        found = await rows.notifications_at(connection, key)
    return _details(session, found, default)


async def of_account(session: Session, account_id: str) -> Sequence[NotificationDetails]:
    """All settings of an account, also those for identities of others."""
    arn = session.identity_arn(IdentityRef(account_id, "*"))
    session.must_be_allowed("GetIdentityNotifications", arn)
    async with session.store.reading() as connection:
        found = await rows.notifications_of_account(connection, account_id, session.region)
    return [_details(session, row, None) for row in found]


async def update(
    session: Session,
    ref: IdentityRef,
    account_id: str | None = None,
    *,
    topics: Mapping[NotificationKind, str | None] | None = None,
    headers: Mapping[NotificationKind, bool] | None = None,
    is_forwarding: bool | None = None,
) -> None:
    """Set those that are given, in one change; the others stay.

    A topic is one of the same account by its name, one of another account that is open to it
    (ACCOUNT/NAME or an ARN), or ``None`` for none. ``headers`` is whether
    notifications of a kind have the header fields of the message. ``is_forwarding`` is the
    owner's: bounces and complaints are also mailed to the return path. A topic that begins to
    be used gets a message, as from SES. Raises NoticeNotKeptError if that is not kept.
    """
    account_id = _account(session, ref, account_id)
    resource, columns = _resource(session, ref, account_id), dict[str, Any]()
    if topics:
        session.must_be_allowed("SetIdentityNotificationTopic", resource)
        for kind, topic in topics.items():
            its = None if topic is None else named(session, account_id, topic)
            columns[f"{kind.lower()}_topic"] = its
    if headers:
        session.must_be_allowed("SetIdentityHeadersInNotifications", resource)
        columns |= {f"{kind.lower()}_headers": has for kind, has in headers.items()}
    if is_forwarding is not None:
        session.must_be_allowed("SetIdentityFeedbackForwarding", resource)
        columns["is_forwarding"] = is_forwarding
    key = _key(session, ref, account_id)
    async with session.changing() as change:
        if key.is_owner_s:
            _ = await identities.identity(
                change.connection, ref.account_id, session.region, ref.name
            )
        before = await rows.notifications_at(change.connection, key)
        after = await rows.set_notifications(change, before, columns)
    begun = [
        place_of(account_id, name)
        for kind in NOTIFICATION_KINDS
        if (name := after.topic(kind)) is not None and name != before.topic(kind)
    ]
    await notices.try_topics_of_identity(session, account_id, begun)


async def set_configuration_set(session: Session, ref: IdentityRef, name: str | None) -> None:
    """Set the configuration set of mail that names none; ``None`` is none."""
    session.must_be_allowed("SetIdentityConfigurationSet", session.identity_arn(ref))
    async with session.changing() as change:
        row = await identities.identity(
            change.connection, ref.account_id, session.region, ref.name
        )
        if name is not None:
            _ = await configuration_sets.configuration_set(
                change.connection, ref.account_id, session.region, name
            )
        await identities.update_identity(
            change, row, {"configuration_set": name}, action="set-configuration-set"
        )


def _account(session: Session, ref: IdentityRef, account_id: str | None) -> str:
    """The account whose settings are meant."""
    if account_id is not None:
        return account_id
    caller = session.caller
    return ref.account_id if isinstance(caller, Operator) else caller.account.id


def _resource(session: Session, ref: IdentityRef, account_id: str) -> str:
    """The resource of the right: the identity; of a delegate's settings, it as its own.

    SES's actions for notifications know no resource of another account.
    """
    session.must_be_here(ref)
    return str(IdentityArn(session.partition, session.region, account_id, ref.name))


def _key(session: Session, ref: IdentityRef, account_id: str) -> NotificationRow:
    if ref.name == "*":
        raise RefusedChangeError("name one identity")
    return NotificationRow(
        account_id=account_id,
        region=session.region,
        owner_id=ref.account_id,
        identity=ref.name,
    )


def _details(
    session: Session, row: NotificationRow, configuration_set: str | None
) -> NotificationDetails:
    arn = IdentityArn(session.partition, row.region, row.owner_id, row.identity)
    kinds: tuple[NotificationKind, ...] = ("Bounce", "Complaint", "Delivery")
    return NotificationDetails(
        identity_arn=str(arn),
        account_id=row.account_id,
        topics={kind: row.topic(kind) for kind in kinds},
        headers={kind: row.has_headers(kind) for kind in kinds},
        is_forwarding=row.is_forwarding if row.is_owner_s else None,
        configuration_set=configuration_set,
    )
