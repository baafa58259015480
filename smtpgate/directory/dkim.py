"""DKIM keys in the directory: create, import, move through stages, delete and list them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select, tuple_

from smtpgate.core.address import MAX_DOMAIN_OCTETS, AddressError, parse_domain
from smtpgate.core.proof.dkim_record import dkim_name
from smtpgate.core.proof.dkim_stages import KeyOrigin, KeyStage
from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    NotFoundError,
    RefusedChangeError,
)
from smtpgate.directory.identities import identity
from smtpgate.directory.rows import columns_of, delete_rows, insert_rows, refusing, update_row
from smtpgate.directory.schema import dkim_keys
from smtpgate.directory.sealed import must_be_known
from smtpgate.directory.sealing import MasterKeys
from smtpgate.signing.private_keys import MIN_RSA_BITS, dns_record, load_private_key
from smtpgate.sql.asynchronous import AsyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimKeyRow:
    """A stored DKIM key without its private half; ``record`` is to be published in the DNS."""

    account_id: str
    region: str
    domain: str
    selector: str
    algorithm: str = ""
    record: str = ""
    stage: KeyStage = "pending"
    origin: KeyOrigin = "manual"
    since: datetime | None = None
    created_at: datetime | None = None
    problem: str = ""
    alarm_since: datetime | None = None
    checked_at: datetime | None = None
    next_check_at: datetime | None = None

    @property
    def dns_name(self) -> str:
        """The name of its record (RFC 6376 §3.6.2.1)."""
        return dkim_name(self.selector, self.domain)

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries: the identity."""
        return AuditSubject("identity", self.account_id, self.domain)

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        return {
            "selector": self.selector,
            "algorithm": self.algorithm,
            "stage": self.stage,
            **({} if self.origin == "manual" else {"origin": self.origin}),
            "alarm_since": self.alarm_since.isoformat() if self.alarm_since else None,
        }


_COLUMNS: Final = columns_of(dkim_keys, DkimKeyRow)
_KEY_COLUMNS: Final = ("account_id", "region", "domain", "selector")


def private_key_context(row: DkimKeyRow | Row[Any]) -> str:
    """The context that a private key is sealed for, of any row that names the key."""
    return f"dkim/{row.account_id}/{row.region}/{row.domain}/{row.selector}"


def _key(row: DkimKeyRow) -> dict[str, str]:
    return {column: getattr(row, column) for column in _KEY_COLUMNS}


async def dkim_keys_of(
    connection: AsyncConnection, account_id: str, region: str, domain: str
) -> list[DkimKeyRow]:
    """The keys of a domain identity, by selector."""
    return await dkim_key_page(connection, region, account_id=account_id, domain=domain)


async def dkim_key_page(
    connection: AsyncConnection,
    region: str,
    *,
    account_id: str | None = None,
    domain: str | None = None,
    stage: str | None = None,
    origin: KeyOrigin | None = None,
    after: tuple[str, str, str] = ("", "", ""),
    limit: int | None = None,
) -> list[DkimKeyRow]:
    """Keys in the order of accounts, domains and selectors."""
    order = [dkim_keys.c[name] for name in _KEY_COLUMNS]
    query = select(*_COLUMNS).where(dkim_keys.c.region == region)
    if account_id is not None:
        query = query.where(dkim_keys.c.account_id == account_id)
    if domain is not None:
        query = query.where(dkim_keys.c.domain == domain)
    if stage is not None:
        query = query.where(dkim_keys.c.stage == stage)
    if origin is not None:
        query = query.where(dkim_keys.c.origin == origin)
    if after != ("", "", ""):
        query = query.where(tuple_(*order) > (after[0], region, *after[1:]))
    rows = await connection.execute(query.order_by(*order).limit(limit))
    return [DkimKeyRow(**row._mapping) for row in rows]


async def dkim_key(
    connection: AsyncConnection, account_id: str, region: str, domain: str, selector: str
) -> DkimKeyRow:
    """The key of that selector. Raises NotFoundError."""
    for row in await dkim_keys_of(connection, account_id, region, domain):
        if row.selector == selector.lower():
            return row
    raise NotFoundError(f"identity {account_id}/{domain} has no DKIM key `{selector}'")


async def add_dkim_key(
    change: Change,
    master_keys: MasterKeys,
    row: DkimKeyRow,
    pem: bytes,
    *,
    is_checked: bool = False,
    min_rsa_bits: int = MIN_RSA_BITS,
) -> DkimKeyRow:
    """Check and store a private key for a domain identity.

    ``is_checked`` is of a key that was made or checked just now. Raises NotFoundError,
    ConflictError, RefusedChangeError.
    """
    owner = await identity(change.connection, row.account_id, row.region, row.domain)
    if not owner.is_domain:
        raise RefusedChangeError(
            f"{owner.subject} is an address, which is signed for with the keys of its domain"
        )
    selector = _selector(row.selector, owner.name)
    with refusing(f"DKIM key `{row.selector}'"):
        # Checking an RSA key takes a thirtieth of a second.
        key = await asyncio.to_thread(
            load_private_key, pem, is_checked=is_checked, min_rsa_bits=min_rsa_bits
        )
    row = replace(
        row,
        domain=owner.name,
        selector=selector,
        algorithm=key.algorithm,
        record=dns_record(key),
    )
    there = await dkim_keys_of(change.connection, row.account_id, row.region, row.domain)
    if any(other.selector == selector for other in there):
        raise ConflictError(f"{row.subject} has a DKIM key `{selector}' already")
    (row,) = await add_dkim_keys(change, master_keys, [(row, pem)])
    return row


async def add_dkim_keys(
    change: Change, master_keys: MasterKeys, keys: Sequence[tuple[DkimKeyRow, bytes]]
) -> list[DkimKeyRow]:
    """Keep private keys that were checked; the rows are known to be good and not there yet."""
    await must_be_known(change, master_keys)
    rows = [
        replace(row, since=row.since or change.now, created_at=change.now) for row, _ in keys
    ]
    values = [
        {"private_key": master_keys.seal(pem, private_key_context(row)), **asdict(row)}
        for row, (_, pem) in zip(rows, keys, strict=True)
    ]
    await insert_rows(change, dkim_keys, values, rows, action="add-dkim-key")
    return rows


def record_of(pem: bytes) -> str:
    """The record to publish for a private key that was checked."""
    return dns_record(load_private_key(pem, is_checked=True))


def _selector(text: str, domain: str) -> str:
    """One or more labels of the DNS (RFC 6376 §3.1), which make a name with the domain's."""
    try:
        selector = parse_domain(text)
    except AddressError as error:
        raise RefusedChangeError(f"`{text}' is no selector: {error}") from None
    if selector.startswith("[") or len(dkim_name(selector, domain)) > MAX_DOMAIN_OCTETS:
        raise RefusedChangeError(f"`{text}' is no selector: no name in the DNS can have it")
    return selector


async def update_dkim_key(
    change: Change, before: DkimKeyRow, changes: Mapping[str, Any], *, action: str
) -> DkimKeyRow:
    """Change columns of a key. A change of facts gets an audit entry.

    ``before`` was read in this transaction.
    """
    after = replace(before, **changes)
    return await update_row(change, dkim_keys, _key(before), before, after, action=action)


async def delete_dkim_key(change: Change, row: DkimKeyRow) -> None:
    """Delete a key."""
    await delete_rows(change, dkim_keys, [_key(row)], [row], action="delete-dkim-key")
