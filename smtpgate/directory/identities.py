"""Identities in the directory: register, verify, pause, delete and list them.

Several accounts may register the same domain; each has to prove it for itself, with a token of
its own. The states of verification are decided in the core.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select, tuple_

from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.naming import one_line
from smtpgate.core.proof.dkim_stages import KeyOrigin
from smtpgate.core.proof.ownership import TOKEN_OCTETS, new_token
from smtpgate.core.proof.verification import (
    NOT_STARTED,
    VerificationMethod,
    VerificationState,
    begin,
)
from smtpgate.directory.accounts import account
from smtpgate.directory.change import AuditSubject, Change, NotFoundError, RefusedChangeError
from smtpgate.directory.notification_rows import drop_owner_notifications
from smtpgate.directory.policies import PolicyOwner, drop_policies
from smtpgate.directory.quotas import drop_quotas
from smtpgate.directory.reputations import drop_identity_reputations
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
from smtpgate.directory.schema import dkim_keys, identities, mail_from_domains
from smtpgate.directory.tags import Tagged, drop_all_tags
from smtpgate.sql.asynchronous import AsyncConnection

_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRow:
    """A stored identity."""

    account_id: str
    region: str
    name: str
    token: str = ""
    state: VerificationState = "not-started"
    method: VerificationMethod | None = None
    started_at: datetime | None = None
    verified_at: datetime | None = None
    checked_at: datetime | None = None
    missing_since: datetime | None = None
    next_check_at: datetime | None = None
    problem: str = ""
    soa: str = ""
    code_digest: bytes | None = None
    code_sent_at: datetime | None = None
    code_failures: int = 0
    paused_reason: str | None = None
    configuration_set: str | None = None
    suppresses_delegates: bool = False
    dkim_origin: KeyOrigin | None = None
    dkim_enabled: bool = True
    created_at: datetime | None = None

    @property
    def is_domain(self) -> bool:
        """True if it is a domain and no single address."""
        return "@" not in self.name

    @property
    def domain(self) -> str:
        """The domain of the address, or the domain itself."""
        return self.name.rpartition("@")[2]

    @property
    def is_verified(self) -> bool:
        """True if mail can be sent with it."""
        return self.state == "success"

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("identity", self.account_id, self.name)

    @property
    def key(self) -> tuple[str, str, str]:
        """The values of the key columns: account, region, name."""
        return self.account_id, self.region, self.name

    def arn(self, partition: str) -> str:
        """Its ARN."""
        return str(IdentityArn(partition, self.region, self.account_id, self.name))

    def policies(self, partition: str) -> PolicyOwner:
        """The identity as the owner of policies."""
        return PolicyOwner.of_identity(
            self.account_id, self.region, self.name, self.arn(partition)
        )

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        return {
            "state": self.state,
            "method": self.method,
            "missing_since": self.missing_since.isoformat() if self.missing_since else None,
            "paused_reason": self.paused_reason,
            **({"configuration_set": self.configuration_set} if self.configuration_set else {}),
            **({"suppresses_delegates": True} if self.suppresses_delegates else {}),
            **({"dkim_origin": self.dkim_origin} if self.dkim_origin else {}),
            **({} if self.dkim_enabled else {"dkim_enabled": False}),
        }


_COLUMNS: Final = columns_of(identities, IdentityRow)


def _key(account_id: str, region: str, name: str) -> dict[str, str]:
    return {"account_id": account_id, "region": region, "name": name}


async def identity(
    connection: AsyncConnection, account_id: str, region: str, name: str
) -> IdentityRow:
    """The identity of that account and name, in whatever spelling. Raises NotFoundError."""
    try:
        arn = IdentityArn.parse(str(IdentityArn("aws", region, account_id, name)))
    except ArnError:
        raise _missing(account_id, region, name) from None
    key = _key(account_id, region, arn.name)
    found = await connection.execute(select(*_COLUMNS).where(selects(identities, key)))
    row = found.one_or_none()
    if row is None:
        raise _missing(account_id, region, name)
    return IdentityRow(**row._mapping)


def _missing(account_id: str, region: str, name: str) -> NotFoundError:
    return NotFoundError(f"there is no identity {account_id}/{name} in region {region}")


async def identity_page(
    connection: AsyncConnection,
    region: str,
    *,
    account_id: str | None = None,
    name: str | None = None,
    domain: str | None = None,
    state: str | None = None,
    is_paused: bool | None = None,
    is_domain: bool | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> list[IdentityRow]:
    """Identities in the order of accounts and names: all, of one account, or of one name.

    ``domain`` leaves that domain and the addresses in it.
    """
    query = select(*_COLUMNS)
    if account_id is None and name is None and domain is None:
        # Not by an index of regions: the rows have to come in the order of the primary key.
        query = query.where(func.coalesce(identities.c.region, "") == region)
    else:
        query = query.where(identities.c.region == region)
    wanted = {"account_id": account_id, "name": name, "domain": domain, "state": state}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(identities.c[column] == value)
    if is_paused is not None:
        reason = identities.c.paused_reason
        query = query.where(reason.is_not(None) if is_paused else reason.is_(None))
    if is_domain is not None:
        has_at = identities.c.name.contains("@")
        query = query.where(~has_at if is_domain else has_at)
    order = (identities.c.account_id, identities.c.region, identities.c.name)
    if after != ("", ""):
        query = query.where(tuple_(*order) > (after[0], region, after[1]))
    query = query.order_by(*order).limit(limit)
    return [IdentityRow(**row._mapping) for row in await connection.execute(query)]


async def codes_sent_since(connection: AsyncConnection, account_id: str, at: datetime) -> int:
    """The number of an account's addresses that a code was mailed to since then."""
    query = select(func.count()).where(
        identities.c.account_id == account_id, identities.c.code_sent_at >= at
    )
    return int((await connection.execute(query)).scalar_one())


async def create_identity(change: Change, row: IdentityRow, partition: str) -> IdentityRow:
    """Register an identity, with a token that proves its ownership, unless it has one.

    Raises NotFoundError, ConflictError, RefusedChangeError.
    """
    await account(change.connection, row.account_id)
    row = _checked(row, partition)
    key = _key(row.account_id, row.region, row.name)
    await must_be_new(change, identities, key, row.subject)
    (row,) = await add_identities(change, [row])
    return row


async def add_identities(change: Change, rows: Sequence[IdentityRow]) -> list[IdentityRow]:
    """Add identities that are known to be valid and new."""
    rows = [_begun(row, change.now) for row in rows]
    values = [{"domain": row.domain, **asdict(row)} for row in rows]
    await insert_rows(change, identities, values, rows)
    return rows


def _begun(row: IdentityRow, now: datetime) -> IdentityRow:
    """With its token; the record of a domain is looked for from its registration on."""
    token = row.token or new_token(os.urandom(TOKEN_OCTETS))
    row = replace(row, token=token, created_at=now)
    if not row.is_domain or row.state != "not-started":
        return row
    return replace(row, **asdict(begin(NOT_STARTED, now)))


def _checked(row: IdentityRow, partition: str) -> IdentityRow:
    if _REGION.fullmatch(row.region) is None:
        raise RefusedChangeError(f"`{row.region}' is no region's name, such as us-east-1")
    try:
        name = IdentityArn.parse(row.arn(partition)).name
    except ArnError:
        raise RefusedChangeError(
            f"`{row.name}' is neither a domain nor an address that an ARN can name"
        ) from None
    _must_be_a_line(row)
    return replace(row, name=name)


def _must_be_a_line(row: IdentityRow) -> None:
    if row.paused_reason is not None:
        with refusing(f"{row.subject}: paused_reason"):
            one_line(row.paused_reason)


async def update_identity(
    change: Change, before: IdentityRow, changes: Mapping[str, Any], *, action: str
) -> IdentityRow:
    """Change columns of an identity. A change of facts gets an audit entry.

    ``before`` was read in this transaction. Raises RefusedChangeError.
    """
    after = replace(before, **changes)
    _must_be_a_line(after)
    key = _key(before.account_id, before.region, before.name)
    return await update_row(change, identities, key, before, after, action=action)


async def delete_identity(change: Change, row: IdentityRow, partition: str) -> None:
    """Delete an identity, with its policies, caps, DKIM keys and MAIL FROM domain."""
    await drop_policies(change, row.policies(partition))
    await remove_identities(change, [row])


async def remove_identities(change: Change, rows: Sequence[IdentityRow]) -> None:
    """Delete identities that are known to exist, with all that belongs to them.

    Their policies have been deleted before.
    """
    names = [(row.account_id, row.region, row.name) for row in rows]
    await drop_quotas(change, "identity", names)
    await drop_identity_reputations(change, names)
    keys = [_key(row.account_id, row.region, row.name) for row in rows]
    of_dkim_keys = [
        {"account_id": row.account_id, "region": row.region, "domain": row.name} for row in rows
    ]
    await delete_by_key(change, dkim_keys, of_dkim_keys)
    of_mail_from = [
        {"account_id": row.account_id, "region": row.region, "identity": row.name}
        for row in rows
    ]
    await delete_by_key(change, mail_from_domains, of_mail_from)
    await drop_owner_notifications(change, rows)
    await drop_all_tags(change, [Tagged(*row.key[:2], "identity", row.name) for row in rows])
    await delete_rows(change, identities, keys, rows)
