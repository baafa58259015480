"""Notification settings of identities: the owner's, and those of each delegate."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy import delete, func, insert, select

from smtpgate.core.notification.settings import NOTIFICATION_KINDS, NotificationKind
from smtpgate.directory.change import AuditSubject, Change, RefusedChangeError
from smtpgate.directory.rows import columns_of, selects
from smtpgate.directory.schema import identity_notifications
from smtpgate.directory.topics import must_have_topic
from smtpgate.sql.asynchronous import AsyncConnection

MAX_DELEGATED: Final = 1000  # identities of others that an account has settings for


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRow:
    """The notifications of mail with an identity that one account wants.

    ``owner_id`` is the account that owns the identity; topics are named by their names.
    """

    account_id: str
    region: str
    owner_id: str
    identity: str
    bounce_topic: str | None = None
    complaint_topic: str | None = None
    delivery_topic: str | None = None
    bounce_headers: bool = False
    complaint_headers: bool = False
    delivery_headers: bool = False
    is_forwarding: bool = True

    @property
    def is_owner_s(self) -> bool:
        """True if they are the owner's."""
        return self.account_id == self.owner_id

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("identity", self.account_id, self.identity)

    @property
    def key(self) -> dict[str, str]:
        """The values of the key columns."""
        return {name: getattr(self, name) for name in _KEY}

    def topic(self, kind: NotificationKind) -> str | None:
        """The topic for a kind of notification."""
        topic: str | None = getattr(self, f"{kind.lower()}_topic")
        return topic

    def has_headers(self, kind: NotificationKind) -> bool:
        """True if such notifications have the header fields of the message."""
        return bool(getattr(self, f"{kind.lower()}_headers"))

    def facts(self) -> dict[str, Any]:
        """The settings that are not the default ones, for the audit log."""
        default = _default(self)
        facts = {
            name: value
            for name, value in asdict(self).items()
            if value != getattr(default, name)
        }
        return {"notifications_of": self.owner_id, **facts}


_KEY: Final = ("account_id", "region", "owner_id", "identity")
_COLUMNS: Final = columns_of(identity_notifications, NotificationRow)


def _default(row: NotificationRow) -> NotificationRow:
    return NotificationRow(
        account_id=row.account_id,
        region=row.region,
        owner_id=row.owner_id,
        identity=row.identity,
    )


async def notifications_at(
    connection: AsyncConnection, row: NotificationRow
) -> NotificationRow:
    """The stored settings with the key of ``row``; the default ones if there are none."""
    query = select(*_COLUMNS).where(selects(identity_notifications, row.key))
    found = (await connection.execute(query)).one_or_none()
    return _default(row) if found is None else NotificationRow(**found._mapping)


async def notifications_of_account(
    connection: AsyncConnection, account_id: str, region: str
) -> list[NotificationRow]:
    """All settings of an account, also those for identities of others."""
    key = {"account_id": account_id, "region": region}
    query = select(*_COLUMNS).where(selects(identity_notifications, key))
    query = query.order_by(*(identity_notifications.c[name] for name in _KEY))
    return [NotificationRow(**row._mapping) for row in await connection.execute(query)]


async def set_notifications(
    change: Change, before: NotificationRow, changes: Mapping[str, Any]
) -> NotificationRow:
    """Change settings that were read in this transaction.

    Raises RefusedChangeError, or NotFoundError for a topic.
    """
    after = replace(before, **changes)
    _must_be_consistent(after)
    used = {before.topic(kind) for kind in NOTIFICATION_KINDS}
    for name in dict.fromkeys(after.topic(kind) for kind in NOTIFICATION_KINDS):
        if name is not None and name not in used:
            await must_have_topic(change, after.account_id, after.region, name)
    if not after.is_owner_s and before == _default(before):
        await _must_have_room(change, after)
    await write_notifications(change, [(before, after)])
    return after


def _must_be_consistent(row: NotificationRow) -> None:
    what = f"notifications of {row.owner_id}/{row.identity}"
    if row.is_forwarding:
        return
    if not row.is_owner_s:
        raise RefusedChangeError(f"{what}: forwarding is set by the owner of the identity")
    if row.bounce_topic is None or row.complaint_topic is None:
        raise RefusedChangeError(
            f"{what}: forwarding can be off only while bounces and complaints have topics"
        )


async def _must_have_room(change: Change, row: NotificationRow) -> None:
    table = identity_notifications
    query = select(func.count()).where(
        table.c.account_id == row.account_id, table.c.owner_id != row.account_id
    )
    if ((await change.connection.execute(query)).scalar() or 0) >= MAX_DELEGATED:
        raise RefusedChangeError(
            f"account {row.account_id} has settings for {MAX_DELEGATED} identities of others, "
            f"the most it may"
        )


async def write_notifications(
    change: Change, writes: list[tuple[NotificationRow, NotificationRow]]
) -> None:
    """Write settings that are known to be valid; default ones have no row."""
    for before, after in writes:
        if before == after:
            continue
        table = identity_notifications
        await change.connection.execute(delete(table).where(selects(table, after.key)))
        if after != _default(after):
            await change.connection.execute(insert(table), [asdict(after)])
        await change.note(
            "set-notifications", after.subject, before=before.facts(), after=after.facts()
        )
