"""Users in the directory: create, change, delete and list them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, tuple_

from smtpgate.core.arn import is_account_id
from smtpgate.core.naming import (
    USER_ID_OCTETS,
    is_user_name,
    new_user_id,
    tags,
    user_key,
    user_name,
    user_path,
)
from smtpgate.directory.accounts import account
from smtpgate.directory.change import AuditSubject, Change, ConflictError, NotFoundError
from smtpgate.directory.keys import delete_keys_of
from smtpgate.directory.policies import MAY_SEND, PolicyOwner, drop_policies, put_policy
from smtpgate.directory.quotas import drop_quotas
from smtpgate.directory.rows import columns_of, delete_rows, insert_rows, refusing, update_row
from smtpgate.directory.schema import users
from smtpgate.sql.asynchronous import AsyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A stored user."""

    account_id: str
    name: str
    path: str = "/"
    tags: Mapping[str, str] = field(default_factory=dict)
    unique_id: str = ""
    created_at: datetime | None = None

    @property
    def key(self) -> str:
        """The key that is unique among the account's users."""
        return user_key(self.name)

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("user", self.account_id, self.name)

    @property
    def policies(self) -> PolicyOwner:
        """The user as the owner of policies."""
        return PolicyOwner.of_user(self.account_id, self.name)

    def facts(self) -> dict[str, Any]:
        """The fields that can be changed, for the audit log."""
        return {"path": self.path, "tags": dict(self.tags)}


_COLUMNS: Final = columns_of(users, UserRow)


def _checked(row: UserRow) -> UserRow:
    with refusing(f"user `{row.name}'"):
        user_name(row.name)
        return replace(row, path=user_path(row.path), tags=tags(row.tags))


async def user(connection: AsyncConnection, account_id: str, name: str) -> UserRow:
    """The user of that name, in whatever letter case. Raises NotFoundError."""
    if is_account_id(account_id) and is_user_name(name):
        query = select(*_COLUMNS).where(
            users.c.account_id == account_id, users.c.key == user_key(name)
        )
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return UserRow(**row._mapping)
    raise NotFoundError(f"there is no user {account_id}/{name}")


async def user_page(
    connection: AsyncConnection,
    account_id: str | None = None,
    *,
    search: str | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> list[UserRow]:
    """Users in the order of accounts and names, of one account or all.

    ``search`` is a part of the name, in whatever letter case.
    """
    query = select(*_COLUMNS).order_by(users.c.account_id, users.c.key).limit(limit)
    if search is not None:
        query = query.where(users.c.key.contains(user_key(search), autoescape=True))
    if account_id is not None:
        query = query.where(users.c.account_id == account_id, users.c.key > after[1])
    elif after != ("", ""):
        query = query.where(tuple_(users.c.account_id, users.c.key) > after)
    return [UserRow(**row._mapping) for row in await connection.execute(query)]


async def create_user(change: Change, row: UserRow, *, may_send: bool = True) -> UserRow:
    """Add a user, with a policy that lets it send, by default.

    Raises NotFoundError for the account, ConflictError, RefusedChangeError.
    """
    row = _checked(row)
    await account(change.connection, row.account_id)
    found = await change.connection.execute(
        select(users.c.name).where(users.c.account_id == row.account_id, users.c.key == row.key)
    )
    other = found.scalar()
    if other is not None:
        raise ConflictError(f"user {row.account_id}/{other} already exists")
    (row,) = await add_users(change, [row])
    if may_send:
        await put_policy(change, row.policies, "may-send", MAY_SEND)
    return row


async def add_users(change: Change, rows: Sequence[UserRow]) -> list[UserRow]:
    """Add users that are known to be valid and new."""
    rows = [
        replace(
            row,
            unique_id=row.unique_id or new_user_id(os.urandom(USER_ID_OCTETS)),
            created_at=change.now,
        )
        for row in rows
    ]
    values = [{"key": row.key, **asdict(row)} for row in rows]
    await insert_rows(change, users, values, rows)
    return rows


async def update_user(
    change: Change, account_id: str, name: str, changes: Mapping[str, Any]
) -> UserRow:
    """Change the path or the tags. Raises NotFoundError or RefusedChangeError."""
    before = await user(change.connection, account_id, name)
    after = _checked(replace(before, **changes))
    return await update_row(change, users, _key(before), before, after, action="change")


async def delete_user(change: Change, account_id: str, name: str) -> None:
    """Delete a user, with its access keys and policies. Raises NotFoundError."""
    row = await user(change.connection, account_id, name)
    await delete_keys_of(change, account_id, row.name)
    await drop_policies(change, row.policies)
    await remove_users(change, [row])


async def remove_users(change: Change, rows: Sequence[UserRow]) -> None:
    """Delete users that are known to exist, with their limits and nothing else."""
    await drop_quotas(change, "user", [(row.account_id, "", row.key) for row in rows])
    await delete_rows(change, users, list(map(_key, rows)), rows)


def _key(row: UserRow) -> dict[str, str]:
    return {"account_id": row.account_id, "key": row.key}
