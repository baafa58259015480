"""Accounts, users, keys and identities in a store, made in a line; and what was noted of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, text

from smtpgate.core.proof.mail_from import MailFromDomain, OnMxFailure
from smtpgate.core.proof.verification import Verification
from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import AccountRow, create_account
from smtpgate.directory.change import Actor
from smtpgate.directory.dkim import DkimKeyRow, add_dkim_key
from smtpgate.directory.identities import IdentityRow, create_identity, identity
from smtpgate.directory.keys import AccessKeyRow, create_access_key
from smtpgate.directory.mail_from import MailFromRow, put_mail_from
from smtpgate.directory.policies import PolicyOwner
from smtpgate.directory.quotas import Quota, QuotaKey, set_quota
from smtpgate.directory.schema import audit_log
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import UserRow, create_user
from smtpgate.signing.private_keys import generate_private_key
from tests.support.directory import ACTOR
from tests.support.world import REGION, grant

ACME: Final = "111111111111"
OTHER: Final = "222222222222"
PEM: Final = generate_private_key("ed25519")


@dataclass(frozen=True, slots=True)
class Note:
    """A line of the audit log."""

    at: datetime
    actor: str
    origin: str
    action: str
    kind: str
    account_id: str
    name: str
    before: Any
    after: Any


async def notes(store: DirectoryStore, after_seq: int = 0) -> list[Note]:
    """The audit log, the oldest line first."""
    columns = [audit_log.c[name] for name in Note.__slots__]
    query = select(*columns).where(audit_log.c.seq > after_seq).order_by(audit_log.c.seq)
    async with store.reading() as connection:
        return [Note(*row) for row in await connection.execute(query)]


async def raw(store: DirectoryStore, statement: str, **values: object) -> Sequence[Any]:
    """The result of a statement that is run as at a prompt, without our own code."""
    async with store.database.changing() as connection:
        found = await connection.execute(text(statement), values)
        return found.all() if found.returns_rows else ()


async def add_account(
    store: DirectoryStore,
    account_id: str = ACME,
    **columns: Any,  # noqa: ANN401 - by the column
) -> AccountRow:
    """An account."""
    async with store.changing(ACTOR) as change:
        return await create_account(change, AccountRow(id=account_id, **columns))


async def add_user(
    store: DirectoryStore,
    name: str = "mailer",
    account_id: str = ACME,
    *,
    may_send: bool = True,
    **columns: Any,  # noqa: ANN401 - by the column
) -> UserRow:
    """A user of an account that is there."""
    async with store.changing(ACTOR) as change:
        row = UserRow(account_id=account_id, name=name, **columns)
        return await create_user(change, row, may_send=may_send)


async def add_key(
    store: DirectoryStore,
    key_id: str = "",
    account_id: str = ACME,
    *,
    user_name: str | None = None,
    secret: str = "its secret",
    **columns: Any,  # noqa: ANN401 - by the column
) -> AccessKeyRow:
    """An access key of a user, or of the account's root."""
    row = AccessKeyRow(id=key_id, account_id=account_id, user_name=user_name, **columns)
    async with store.changing(ACTOR) as change:
        return await create_access_key(change, store.master_keys, row, Secret(secret))


async def limit(
    store: DirectoryStore,
    place: QuotaKey,
    **columns: Any,  # noqa: ANN401 - by the column
) -> Quota:
    """Limits, or a raise of them."""
    async with store.changing(ACTOR) as change:
        return await set_quota(change, place, columns)


async def add_identity(
    store: DirectoryStore,
    name: str = "example.com",
    account_id: str = ACME,
    *,
    region: str = REGION,
    **columns: Any,  # noqa: ANN401 - by the column
) -> IdentityRow:
    """An identity, verified unless ``state`` says otherwise."""
    row = IdentityRow(
        account_id=account_id,
        region=region,
        name=name,
        **{"state": "success", "method": "trust"} | columns,
    )
    async with store.changing(ACTOR) as change:
        return await create_identity(change, row, store.partition)


async def add_mail_from(
    store: DirectoryStore,
    name: str = "example.com",
    account_id: str = ACME,
    *,
    is_ready: bool = True,
    on_mx_failure: OnMxFailure = "default",
) -> MailFromRow:
    """The MAIL FROM domain ``bounce.`` of an identity that is there."""
    verification = Verification(state="success", method="mx") if is_ready else Verification()
    value = MailFromDomain(
        domain=f"bounce.{name}", on_mx_failure=on_mx_failure, verification=verification
    )
    async with store.changing(ACTOR) as change:
        row = await identity(change.connection, account_id, store.region, name)
        return await put_mail_from(change, row, value, action="mail-from")


async def signing_key(
    store: DirectoryStore,
    selector: str = "one",
    domain: str = "example.com",
    account_id: str = ACME,
    *,
    pem: bytes = PEM,
    **columns: Any,  # noqa: ANN401 - by the column
) -> DkimKeyRow:
    """A DKIM key of a domain identity, active unless ``stage`` says otherwise."""
    row = DkimKeyRow(
        account_id=account_id,
        region=REGION,
        domain=domain,
        selector=selector,
        **{"stage": "active"} | columns,
    )
    async with store.changing(Actor("tester", "a test")) as change:
        return await add_dkim_key(change, store.master_keys, row, pem)


def identity_place(name: str = "example.com", account_id: str = ACME) -> PolicyOwner:
    """The owner of an identity's policies."""
    return IdentityRow(account_id=account_id, region=REGION, name=name).policies("aws")


def sender_policy(
    name: str = "example.com", account_id: str = ACME, *, delegate: str = OTHER, sid: str = "S"
) -> str:
    """A policy of an identity that lets another account send."""
    arn = f"arn:aws:ses:{REGION}:{account_id}:identity/{name}"
    return grant(Sid=sid, Principal={"AWS": delegate}, Resource=arn)
