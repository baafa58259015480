"""Accounts: the tenants of the gate, each with its sending limits."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Final, Literal, TypedDict

from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.session import Session
from smtpgate.core.reputation.sender import RatedSender
from smtpgate.core.reputation.states import Status
from smtpgate.directory import accounts as rows
from smtpgate.directory.accounts import AccountRow
from smtpgate.directory.reputations import reputation

AccountStatus = Literal["active", "paused"]
_NUMBERS: Final = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDetails:
    """An account; a limit of ``None`` is the configuration's, -1 is unlimited.

    ``status`` and ``paused_reason`` are of the operators' pause, ``is_sending`` is the
    account's own switch. ``enforcement_status`` is that of its bounces and complaints; ``None``
    in listings. ``details`` is what the account says of its mail, by SES's names.
    """

    id: str
    name: str
    paused_reason: str | None
    organization_id: str | None
    contact: str | None
    max_24h_send: int | None
    max_send_rate_per_s: float | None
    created_at: datetime | None
    is_sending: bool = True
    details: Mapping[str, Any] | None = None
    enforcement_status: Status | None = None

    @property
    def status(self) -> AccountStatus:
        """Its status: a paused account sends nothing."""
        return "active" if self.paused_reason is None else "paused"


class AccountSettings(TypedDict, total=False):
    """The settings of an account that can be changed."""

    name: str
    organization_id: str | None
    contact: str | None
    max_24h_send: int | None
    max_send_rate_per_s: float | None


def _details(row: AccountRow) -> AccountDetails:
    return AccountDetails(
        id=row.id,
        name=row.name,
        paused_reason=row.paused_reason,
        organization_id=row.organization_id,
        contact=row.contact,
        max_24h_send=row.max_24h_send,
        max_send_rate_per_s=row.max_send_rate_per_s,
        created_at=row.created_at,
        is_sending=row.is_sending,
        details=row.details,
    )


async def create(
    session: Session, account_id: str | None, settings: AccountSettings
) -> AccountDetails:
    """Add an account; without an id it gets a random one."""
    account_id = account_id or f"{secrets.randbelow(_NUMBERS):012}"
    session.must_be_allowed("CreateAccount", session.account_arn(account_id))
    async with session.changing() as change:
        return _details(
            await rows.create_account(change, AccountRow(id=account_id, **settings))
        )


async def pages(
    session: Session,
    *,
    search: str | None = None,
    status: AccountStatus | None = None,
    after: str = "",
    limit: int | None = None,
) -> AsyncIterator[Sequence[AccountDetails]]:
    """Accounts by id, those behind ``after``; ``search`` is a part of an id or a name."""
    session.must_be_allowed("ListAccounts", session.account_arn("*"))

    read = partial(
        rows.account_page,
        search=search,
        is_paused=None if status is None else status == "paused",
    )
    async for page in rows_in_pages(session, read, after, attrgetter("id"), limit):
        yield list(map(_details, page))


async def get(session: Session, account_id: str) -> tuple[AccountDetails, Mapping[str, int]]:
    """An account, and how many users, access keys and identities it has."""
    session.must_be_allowed("GetAccount", session.account_arn(account_id))
    async with session.store.reading() as connection:
        row = await rows.account(connection, account_id)
        its = RatedSender.account(account_id)
        status = (await reputation(connection, session.region, its)).status
        details = replace(_details(row), enforcement_status=status)
        return details, await rows.belongings(connection, account_id)


async def update(
    session: Session, account_id: str, settings: AccountSettings
) -> AccountDetails:
    """Change the settings that are given."""
    session.must_be_allowed("UpdateAccount", session.account_arn(account_id))
    async with session.changing() as change:
        return _details(await rows.update_account(change, account_id, settings))


async def pause(session: Session, account_id: str, reason: str) -> None:
    """Let an account send nothing until it is resumed; senders read the reason."""
    session.must_be_allowed("PauseAccount", session.account_arn(account_id))
    async with session.changing() as change:
        await rows.update_account(change, account_id, {"paused_reason": reason}, action="pause")


async def resume(session: Session, account_id: str) -> None:
    """Let a paused account send again."""
    session.must_be_allowed("ResumeAccount", session.account_arn(account_id))
    async with session.changing() as change:
        await rows.update_account(change, account_id, {"paused_reason": None}, action="resume")


async def may_send(session: Session, account_id: str) -> bool:
    """True unless an account is paused or has turned its sending off. Raises NotFoundError."""
    session.must_be_allowed("GetAccountSending", session.account_arn(account_id))
    async with session.store.reading() as connection:
        row = await rows.account(connection, account_id)
        its = RatedSender.account(account_id)
        found = await reputation(connection, session.region, its)
    return row.is_sending and row.paused_reason is None and found.pause is None


async def set_sending(session: Session, account_id: str, *, is_sending: bool) -> None:
    """Turn an account's own switch; a pause by operators or for its rates stays.

    Raises NotFoundError.
    """
    session.must_be_allowed("UpdateAccountSending", session.account_arn(account_id))
    async with session.changing() as change:
        action = "turn-on" if is_sending else "turn-off"
        await rows.update_account(change, account_id, {"is_sending": is_sending}, action=action)


async def put_details(session: Session, account_id: str, details: Mapping[str, Any]) -> None:
    """Keep what an account says of its mail, by SES's names. Raises NotFoundError."""
    session.must_be_allowed("PutAccountDetails", session.account_arn(account_id))
    async with session.changing() as change:
        await rows.update_account(change, account_id, {"details": dict(details)})


async def delete(session: Session, account_id: str) -> None:
    """Delete an account that has no users, access keys and identities any more."""
    session.must_be_allowed("DeleteAccount", session.account_arn(account_id))
    async with session.changing() as change:
        await rows.delete_account(change, account_id)
