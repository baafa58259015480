"""Topics of other accounts: which accounts may have their settings name a topic.

A setting names a topic of its own account by its name, and one of another account as
``ACCOUNT/NAME``. The grant counts where an event is published too, so its end is that of the
notifications, whatever settings still name the topic.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import select

from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    NotFoundError,
    RefusedChangeError,
)
from smtpgate.directory.rows import columns_of, delete_rows, insert_rows, selects
from smtpgate.directory.schema import topic_grants
from smtpgate.sql.asynchronous import AsyncConnection

MAX_GRANTS: Final = 100  # of a topic
_MAX_TEXT: Final = 256  # what the columns of settings take


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicGrantRow:
    """The permission of an account to use a topic of another."""

    account_id: str
    region: str
    topic: str
    grantee_id: str

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries: the topic."""
        return AuditSubject("topic", self.account_id, self.topic)

    @property
    def key(self) -> dict[str, str]:
        """The values of the key columns."""
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        return {"grantee": self.grantee_id}


_GRANT: Final = columns_of(topic_grants, TopicGrantRow)


def topic_place(account_id: str, text: str) -> tuple[str, str]:
    """The account and the name of the topic that a setting of an account names."""
    owner_id, slash, name = text.rpartition("/")
    return (owner_id, name) if slash else (account_id, text)


def topic_text(account_id: str, owner_id: str, name: str) -> str:
    """The text with which a setting of an account names a topic. Raises RefusedChangeError."""
    text = name if owner_id == account_id else f"{owner_id}/{name}"
    if len(text) > _MAX_TEXT:
        most = _MAX_TEXT - len(owner_id) - 1
        raise RefusedChangeError(
            f"the name of another account's topic may have {most} letters in a setting, not "
            f"{len(name)}"
        )
    return text


async def grantees_of(
    connection: AsyncConnection, account_id: str, region: str, topic: str
) -> list[str]:
    """The other accounts that may use a topic, in order."""
    key = {"account_id": account_id, "region": region, "topic": topic}
    query = select(topic_grants.c.grantee_id).where(selects(topic_grants, key))
    found = await connection.execute(query.order_by(topic_grants.c.grantee_id))
    return list(found.scalars())


async def grants_of(
    connection: AsyncConnection, region: str, account_id: str | None = None
) -> list[TopicGrantRow]:
    """The grants of an account's topics, or of all accounts'."""
    query = select(*_GRANT).where(topic_grants.c.region == region)
    if account_id is not None:
        query = query.where(topic_grants.c.account_id == account_id)
    order = (topic_grants.c[name] for name in ("account_id", "topic", "grantee_id"))
    found = await connection.execute(query.order_by(*order))
    return [TopicGrantRow(**row._mapping) for row in found]


async def allow_topic(change: Change, row: TopicGrantRow) -> None:
    """Let another account use a topic that is there.

    Raises ConflictError if it may already, RefusedChangeError.
    """
    if row.grantee_id == row.account_id:
        raise RefusedChangeError(f"account {row.account_id} may use its own topics")
    there = await grantees_of(change.connection, row.account_id, row.region, row.topic)
    if row.grantee_id in there:
        raise ConflictError(f"account {row.grantee_id} may use {row.subject} already")
    if len(there) >= MAX_GRANTS:
        raise RefusedChangeError(
            f"{row.subject} is open to {MAX_GRANTS} accounts, the most it may"
        )
    await insert_rows(change, topic_grants, [asdict(row)], [row], action="allow-topic")


async def disallow_topic(change: Change, row: TopicGrantRow) -> None:
    """End the permission of an account to use a topic. Raises NotFoundError."""
    there = await grantees_of(change.connection, row.account_id, row.region, row.topic)
    if row.grantee_id not in there:
        raise NotFoundError(f"account {row.grantee_id} may not use {row.subject}")
    await remove_grants(change, [row])


async def remove_grants(change: Change, rows: Sequence[TopicGrantRow]) -> None:
    """Delete grants that are known to exist."""
    keys = [row.key for row in rows]
    await delete_rows(change, topic_grants, keys, rows, action="disallow-topic")
