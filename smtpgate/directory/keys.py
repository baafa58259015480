"""Access keys in the directory: create, import, disable, enable, delete and list them."""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, RowMapping, bindparam, func, select, update

from smtpgate.core.naming import (
    ACCESS_KEY_OCTETS,
    MAX_ACTIVE_KEYS,
    MAX_CERTIFICATES,
    MAX_NETWORKS,
    access_key_id,
    certificate_pin,
    is_access_key_id,
    is_user_name,
    network,
    new_access_key_id,
    user_key,
)
from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import account
from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    NotFoundError,
    RefusedChangeError,
)
from smtpgate.directory.quotas import drop_quotas
from smtpgate.directory.rows import (
    delete_by_key,
    delete_rows,
    insert_rows,
    must_be_new,
    refusing,
    update_row,
)
from smtpgate.directory.schema import access_keys, key_profiles, users
from smtpgate.directory.sealed import must_be_known
from smtpgate.directory.sealing import MasterKeys
from smtpgate.sql.asynchronous import AsyncConnection

_SECRET_OCTETS: Final = 30  # 40 characters, as those of AWS
_ADDRESS_CHARACTERS: Final = 45  # an IPv6 address; its zone may be cut off


WatchState = Literal["reported", "slowed", "suspended"]
Clearing = Literal["confirmed", "resumed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKeyRow:
    """A stored access key without its secret; the root's has no ``user_name``.

    ``watch_state`` is set while an alarm about its use is open; ``cleared_at`` is when the last
    one was confirmed as its owner's use, or the key was resumed.
    """

    id: str
    account_id: str
    user_name: str | None = None
    is_active: bool = True
    created_at: datetime | None = None
    expires_at: datetime | None = None
    networks: Sequence[str] = ()
    certificates: Sequence[str] = ()
    last_used_at: datetime | None = None
    last_used_from: str | None = None
    watch_state: WatchState | None = None
    watch_reason: str | None = None
    watch_since: datetime | None = None
    slowed_to_per_s: float | None = None
    cleared_at: datetime | None = None
    clearing: Clearing | None = None

    @property
    def owner(self) -> str:
        """The user, or the account for a key of its root."""
        return f"{self.account_id}/{self.user_name}" if self.user_name else self.account_id

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("key", self.account_id, self.id)

    def facts(self) -> dict[str, Any]:
        """The fields that can be changed, for the audit log."""
        return {
            "owner": self.owner,
            "is_active": self.is_active,
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
            "networks": list(self.networks),
            **({"certificates": list(self.certificates)} if self.certificates else {}),
            **({"watch": self.watch_state} if self.watch_state else {}),
            **({"reason": self.watch_reason} if self.watch_reason else {}),
        }


@dataclass(frozen=True, slots=True)
class KeyUse:
    """The latest use of an access key."""

    key_id: str
    at: datetime
    address: str


_COLUMNS: Final = tuple(
    users.c.name.label("user_name") if field.name == "user_name" else access_keys.c[field.name]
    for field in fields(AccessKeyRow)
)
_JOINED: Final = access_keys.outerjoin(
    users,
    (users.c.account_id == access_keys.c.account_id) & (users.c.key == access_keys.c.user_key),
)


def _row(mapping: RowMapping) -> AccessKeyRow:
    lists = {key: tuple(mapping[key]) for key in ("networks", "certificates")}
    return AccessKeyRow(**{**mapping, **lists})


def secret_context(key_id: str) -> str:
    """The context that an access key's secret is sealed for."""
    return f"access-key/{key_id}"


def new_secret() -> Secret:
    """A secret that was never used."""
    return Secret(base64.b64encode(os.urandom(_SECRET_OCTETS)).decode("ascii"))


async def access_key(connection: AsyncConnection, key_id: str) -> AccessKeyRow:
    """The access key of that id. Raises NotFoundError."""
    if is_access_key_id(key_id):
        query = select(*_COLUMNS).select_from(_JOINED).where(access_keys.c.id == key_id)
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return _row(row._mapping)
    raise NotFoundError(f"there is no access key {key_id}")


async def access_key_page(
    connection: AsyncConnection,
    account_id: str | None = None,
    *,
    user_name: str | None = None,
    is_active: bool | None = None,
    unused_since: datetime | None = None,
    is_watched: bool = False,
    after: str = "",
    limit: int | None = None,
) -> list[AccessKeyRow]:
    """Access keys in the order of their ids, of one account or all.

    ``is_watched`` leaves those with an open alarm about their use.
    ``user_name`` leaves those of one user of the account. ``unused_since`` leaves those that
    are older than that moment and were not used after it.
    """
    query = select(*_COLUMNS).select_from(_JOINED).where(access_keys.c.id > after)
    if account_id is not None:
        query = query.where(access_keys.c.account_id == account_id)
    if user_name is not None:
        query = query.where(access_keys.c.user_key == user_key(user_name))
    if is_active is not None:
        query = query.where(access_keys.c.is_active.is_(is_active))
    if is_watched:
        query = query.where(access_keys.c.watch_state.is_not(None))
    if unused_since is not None:
        query = query.where(
            func.coalesce(access_keys.c.last_used_at, access_keys.c.created_at) < unused_since
        )
    rows = await connection.execute(query.order_by(access_keys.c.id).limit(limit))
    return [_row(row._mapping) for row in rows]


async def create_access_key(
    change: Change, master_keys: MasterKeys, row: AccessKeyRow, secret: Secret
) -> AccessKeyRow:
    """Add a key with its secret; without an id it gets one. At most two may be active.

    Raises NotFoundError for the owner, ConflictError, RefusedChangeError.
    """
    key_id = row.id or new_access_key_id(os.urandom(ACCESS_KEY_OCTETS))
    row = _checked(replace(row, id=key_id))
    row = replace(row, user_name=await _owner(change, row))
    await must_be_new(change, access_keys, {"id": row.id}, row.subject)
    if row.is_active:
        await _must_have_room(change, row)
    (row,) = await add_access_keys(change, master_keys, [(row, secret)])
    return row


async def add_access_keys(
    change: Change, master_keys: MasterKeys, keys: Sequence[tuple[AccessKeyRow, Secret]]
) -> list[AccessKeyRow]:
    """Add keys with their secrets that are known to be good, and not to be there yet."""
    await must_be_known(change, master_keys)
    rows = [replace(row, created_at=change.now) for row, _ in keys]
    values = [
        {key: value for key, value in asdict(row).items() if key != "user_name"}
        | {
            "networks": list(row.networks),
            "certificates": list(row.certificates),
            "user_key": user_key(row.user_name) if row.user_name else None,
            "secret": master_keys.seal(_octets(secret), secret_context(row.id)),
        }
        for row, (_, secret) in zip(rows, keys, strict=True)
    ]
    await insert_rows(change, access_keys, values, rows)
    return rows


async def update_access_key(
    change: Change, key_id: str, changes: Mapping[str, Any], *, action: str = "change"
) -> AccessKeyRow:
    """Change the status, the expiry, the networks or the certificates.

    Raises as :func:`create_access_key`.
    """
    before = await access_key(change.connection, key_id)
    after = _checked(replace(before, **changes))
    if after.is_active and not before.is_active:
        await _must_have_room(change, after)
    return await update_row(change, access_keys, {"id": key_id}, before, after, action=action)


async def replace_secret(
    change: Change, master_keys: MasterKeys, key_id: str, secret: Secret
) -> None:
    """Replace the secret of a key; the old secret stops working.

    Raises NotFoundError, or RefusedChangeError as for a new key.
    """
    await must_be_known(change, master_keys)
    row = await access_key(change.connection, key_id)
    sealed = master_keys.seal(_octets(secret), secret_context(key_id))
    await change.connection.execute(
        update(access_keys).where(access_keys.c.id == key_id).values(secret=sealed)
    )
    await change.note("replace-secret", row.subject, after=row.facts())


async def delete_access_key(change: Change, key_id: str) -> None:
    """Delete a key. Raises NotFoundError."""
    await remove_access_keys(change, [await access_key(change.connection, key_id)])


async def delete_keys_of(change: Change, account_id: str, user_name: str) -> None:
    """Delete all keys of a user."""
    rows = await access_key_page(change.connection, account_id, user_name=user_name)
    await remove_access_keys(change, rows)


async def remove_access_keys(change: Change, rows: Sequence[AccessKeyRow]) -> None:
    """Delete keys that are known to exist."""
    if not rows:
        return
    await delete_by_key(change, key_profiles, [{"key_id": row.id} for row in rows])
    await drop_quotas(change, "key", [(row.account_id, "", row.id) for row in rows])
    await delete_rows(change, access_keys, [{"id": row.id} for row in rows], rows)


async def note_uses(connection: AsyncConnection, uses: Sequence[KeyUse]) -> None:
    """Store the latest uses; they get no audit entries."""
    if not uses:
        return
    last_used_at = access_keys.c.last_used_at
    await connection.execute(
        update(access_keys)
        .where(
            access_keys.c.id == bindparam("its_id"),
            last_used_at.is_(None) | (last_used_at < bindparam("at")),
        )
        .values(last_used_at=bindparam("at"), last_used_from=bindparam("address")),
        [
            {
                "its_id": use.key_id,
                "at": use.at,
                "address": use.address[:_ADDRESS_CHARACTERS],
            }
            for use in uses
        ],
    )


def _octets(secret: Secret) -> bytes:
    try:
        octets = secret.value.encode()
    except UnicodeEncodeError:
        octets = b""
    if not octets:
        raise RefusedChangeError("an access key needs its secret, which is a text")
    return octets


def _checked(row: AccessKeyRow) -> AccessKeyRow:
    with refusing(f"access key `{row.id}'"):
        access_key_id(row.id)
        networks = tuple(dict.fromkeys(str(network(text)) for text in row.networks))
        certificates = tuple(dict.fromkeys(map(certificate_pin, row.certificates)))
    if len(networks) > MAX_NETWORKS:
        raise RefusedChangeError(
            f"access key `{row.id}': has at most {MAX_NETWORKS} networks, not {len(networks)}"
        )
    if len(certificates) > MAX_CERTIFICATES:
        raise RefusedChangeError(
            f"access key `{row.id}': has at most {MAX_CERTIFICATES} certificates, "
            f"not {len(certificates)}"
        )
    return replace(row, networks=networks, certificates=certificates)


async def _owner(change: Change, row: AccessKeyRow) -> str | None:
    """The stored name of the user; the owner must exist."""
    await account(change.connection, row.account_id)
    if row.user_name is None:
        return None
    if is_user_name(row.user_name):
        query = select(users.c.name).where(
            users.c.account_id == row.account_id, users.c.key == user_key(row.user_name)
        )
        name: str | None = (await change.connection.execute(query)).scalar()
        if name is not None:
            return name
    raise NotFoundError(f"there is no user {row.account_id}/{row.user_name}")


def _same_owner(row: AccessKeyRow) -> ColumnElement[bool]:
    key = access_keys.c.user_key
    is_users = key == user_key(row.user_name) if row.user_name else key.is_(None)
    return (access_keys.c.account_id == row.account_id) & is_users


async def _must_have_room(change: Change, row: AccessKeyRow) -> None:
    found = await change.connection.execute(
        select(func.count()).where(_same_owner(row), access_keys.c.is_active)
    )
    if (found.scalar() or 0) >= MAX_ACTIVE_KEYS:
        raise ConflictError(
            f"{row.owner} has {MAX_ACTIVE_KEYS} active access keys, the most it may have; "
            f"disable or delete one first"
        )
