"""Accounts in the directory: create, change, pause, delete and list them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, func, select

from smtpgate.core.account import quota, rate
from smtpgate.core.arn import is_account_id
from smtpgate.core.naming import contact_address, one_line, organization_id, pause_reason
from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    NotFoundError,
    RefusedChangeError,
)
from smtpgate.directory.notification_rows import drop_notifications
from smtpgate.directory.quotas import drop_quotas
from smtpgate.directory.reputations import drop_account_reputations
from smtpgate.directory.rows import (
    columns_of,
    delete_rows,
    insert_rows,
    must_be_new,
    refusing,
    update_row,
)
from smtpgate.directory.schema import (
    access_keys,
    accounts,
    configuration_sets,
    identities,
    topics,
    users,
)
from smtpgate.directory.suppression_rows import drop_suppression
from smtpgate.directory.template_rows import drop_templates
from smtpgate.sql.asynchronous import AsyncConnection

# An account with any of these cannot be deleted.
_BELONGINGS: Final = (
    (users, "users"),
    (access_keys, "access keys"),
    (identities, "identities"),
    (topics, "topics"),
    (configuration_sets, "configuration sets"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """A stored account; a limit of ``None`` is the configuration's.

    ``is_sending`` is its own switch, ``details`` what it says of its mail, by SES's names.
    """

    id: str
    name: str = ""
    organization_id: str | None = None
    contact: str | None = None
    paused_reason: str | None = None
    is_sending: bool = True
    details: Mapping[str, Any] | None = None
    max_24h_send: int | None = None
    max_send_rate_per_s: float | None = None
    created_at: datetime | None = None

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("account", self.id)

    def facts(self) -> dict[str, Any]:
        """The fields that can be changed, for the audit log."""
        return {
            key: value for key, value in asdict(self).items() if key not in ("id", "created_at")
        }


_COLUMNS: Final = columns_of(accounts, AccountRow)

_CHECKS: Final[Mapping[str, Callable[[Any], object]]] = {
    "name": one_line,
    "organization_id": organization_id,
    "contact": contact_address,
    "paused_reason": pause_reason,
    "max_24h_send": quota,
    "max_send_rate_per_s": rate,
}


def _checked(row: AccountRow) -> AccountRow:
    if not is_account_id(row.id):
        raise RefusedChangeError(f"`{row.id}' is no account id: it has 12 digits")
    for column, check in _CHECKS.items():
        value = getattr(row, column)
        if value is not None:
            with refusing(f"account {row.id}: {column}"):
                check(value)
    return replace(row, name=row.name or row.id)


async def account(connection: AsyncConnection, account_id: str) -> AccountRow:
    """The account of that id. Raises NotFoundError."""
    if is_account_id(account_id):
        query = select(*_COLUMNS).where(accounts.c.id == account_id)
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return AccountRow(**row._mapping)
    raise NotFoundError(f"there is no account {account_id}")


async def account_page(
    connection: AsyncConnection,
    *,
    search: str | None = None,
    is_paused: bool | None = None,
    after: str = "",
    limit: int | None = None,
) -> list[AccountRow]:
    """Accounts in the order of their ids, those behind ``after``.

    ``search`` is a part of the id or of the name, in whatever letter case.
    """
    query = select(*_COLUMNS).where(accounts.c.id > after).order_by(accounts.c.id).limit(limit)
    if search is not None:
        query = query.where(
            accounts.c.id.contains(search, autoescape=True)
            | accounts.c.name.icontains(search, autoescape=True)
        )
    if is_paused is not None:
        reason = accounts.c.paused_reason
        query = query.where(reason.is_not(None) if is_paused else reason.is_(None))
    return [AccountRow(**row._mapping) for row in await connection.execute(query)]


async def belongings(connection: AsyncConnection, account_id: str) -> dict[str, int]:
    """The number of users, access keys and identities of an account."""
    found = {}
    for table, what in _BELONGINGS:
        query = select(func.count()).where(table.c.account_id == account_id)
        found[what] = (await connection.execute(query)).scalar() or 0
    return found


async def create_account(change: Change, row: AccountRow) -> AccountRow:
    """Add an account. Raises ConflictError or RefusedChangeError."""
    row = _checked(row)
    await must_be_new(change, accounts, {"id": row.id}, row.subject)
    (row,) = await add_accounts(change, [row])
    return row


async def add_accounts(change: Change, rows: Sequence[AccountRow]) -> list[AccountRow]:
    """Add accounts that are known to be valid and new."""
    rows = [replace(row, name=row.name or row.id, created_at=change.now) for row in rows]
    await insert_rows(change, accounts, list(map(asdict, rows)), rows)
    return rows


async def update_account(
    change: Change, account_id: str, changes: Mapping[str, Any], *, action: str = "change"
) -> AccountRow:
    """Change columns of an account; the audit entry has the columns that differ.

    Raises NotFoundError or RefusedChangeError.
    """
    before = await account(change.connection, account_id)
    after = _checked(replace(before, **changes))
    key = {"id": account_id}
    return await update_row(
        change, accounts, key, before, after, action=action, only_differences=True
    )


async def delete_account(change: Change, account_id: str) -> None:
    """Delete an empty account. Raises NotFoundError, or ConflictError when it has things."""
    before = await account(change.connection, account_id)
    for table, what in _BELONGINGS:
        found = await change.connection.execute(
            select(exists().where(table.c.account_id == account_id))
        )
        if found.scalar():
            raise ConflictError(f"account {account_id} still has {what}; delete them first")
    await remove_accounts(change, [before])


async def remove_accounts(change: Change, rows: Sequence[AccountRow]) -> None:
    """Delete accounts that are known to exist and to be empty."""
    await drop_notifications(change, [row.id for row in rows])
    await drop_suppression(change, [row.id for row in rows])
    await drop_templates(change, [row.id for row in rows])
    await drop_quotas(change, "account", [(row.id, "", "") for row in rows])
    await drop_account_reputations(change, [row.id for row in rows])
    await delete_rows(change, accounts, [{"id": row.id} for row in rows], rows)
