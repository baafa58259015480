"""The current content of the directory, read in one transaction."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Executable, Table, func, select, union

from smtpgate.directory.accounts import AccountRow, account_page
from smtpgate.directory.dkim import DkimKeyRow, dkim_key_page
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.documents.parts import read_parts
from smtpgate.directory.identities import IdentityRow, identity_page
from smtpgate.directory.keys import AccessKeyRow, access_key_page
from smtpgate.directory.policies import PolicyOwner, PolicyRow
from smtpgate.directory.quotas import QUOTA_COLUMNS, Quota, QuotaKey, limits_in, quota_in
from smtpgate.directory.rows import columns_of
from smtpgate.directory.schema import (
    access_keys,
    configuration_sets,
    identities,
    policies,
    policy_versions,
    quotas,
    topics,
)
from smtpgate.directory.users import UserRow, user_page
from smtpgate.sql.asynchronous import AsyncConnection

A = TypeVar("A")
T = TypeVar("T")
# An account with the key of a user, or with the name of an identity.
Owned: TypeAlias = tuple[str, str]
_OwnerKey: TypeAlias = tuple[str, str, str, str]
_PAGE: Final = 200
_POLICY: Final = columns_of(policies, PolicyRow)
_NO_QUOTA: Final = Quota()


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """The directory as it is, as far as one region is concerned.

    ``sealed`` has the secret of each access key, ``gone`` the last version of each policy that
    was deleted, ``quotas`` an owner's own under ``""`` and its caps under the delegates,
    ``elsewhere`` the accounts that have identities in other regions, ``with_topics`` those that
    have topics or configuration sets there. ``parts`` are those of parts.py.
    """

    accounts: Mapping[str, AccountRow]
    users: Mapping[Owned, UserRow]
    access_keys: Mapping[str, AccessKeyRow]
    sealed: Mapping[str, bytes] = field(repr=False)
    identities: Mapping[Owned, IdentityRow]
    dkim_keys: Mapping[Owned, Mapping[str, DkimKeyRow]]
    policies: Mapping[_OwnerKey, Mapping[str, PolicyRow]]
    gone: Mapping[_OwnerKey, Mapping[str, int]]
    quotas: Mapping[_OwnerKey, Mapping[str, Quota]]
    elsewhere: frozenset[str]
    with_topics: frozenset[str] = frozenset()
    parts: Mapping[ObjectKey, Fields] = field(default_factory=dict)

    def policies_of(self, owner: PolicyOwner) -> Mapping[str, PolicyRow]:
        """The policies of a user or of an identity, by name."""
        return self.policies.get(_key(owner), {})

    def next_version(self, owner: PolicyOwner, name: str) -> int:
        """The version of the next document of a policy."""
        row = self.policies_of(owner).get(name)
        return 1 + (row.version if row else self.gone.get(_key(owner), {}).get(name, 0))

    def dkim_keys_of(self, account_id: str, domain: str) -> Mapping[str, DkimKeyRow]:
        """The DKIM keys of an identity, by selector."""
        return self.dkim_keys.get((account_id, domain), {})

    def quota_of(self, quota_key: QuotaKey) -> Quota:
        """The limits and temporary limits of a key; empty where there are none."""
        return self.quotas.get(_key(quota_key), {}).get(quota_key.delegate_id, _NO_QUOTA)

    def caps_of(self, account_id: str, region: str, name: str) -> Mapping[str, Quota]:
        """The caps of an identity on other accounts, by their ids.

        Temporary limits alone are no cap.
        """
        found = self.quotas.get(("identity", account_id, region, name), {})
        return {delegate: quota for delegate, quota in found.items() if limits_in(quota)}


def _key(owner: PolicyOwner | QuotaKey) -> _OwnerKey:
    return owner.kind, owner.account_id, owner.region, owner.subject


async def read_current(connection: AsyncConnection, region: str) -> Current:
    """Everything that the directory holds, but the identities of other regions."""
    accounts = _paged(partial(account_page, connection), attrgetter("id"), "")
    users = _paged(partial(user_page, connection), attrgetter("account_id", "key"), ("", ""))
    keys = _paged(partial(access_key_page, connection), attrgetter("id"), "")
    named = attrgetter("account_id", "name")
    registered = _paged(partial(identity_page, connection, region), named, ("", ""))
    placed = attrgetter("account_id", "domain", "selector")
    of_dkim = _paged(partial(dkim_key_page, connection, region), placed, ("", "", ""))
    secrets = _rows(connection, select(access_keys.c.id, access_keys.c.secret))
    elsewhere = await connection.execute(
        select(identities.c.account_id).distinct().where(identities.c.region != region)
    )
    with_topics = await connection.execute(
        union(
            select(topics.c.account_id).where(topics.c.region != region),
            select(configuration_sets.c.account_id).where(
                configuration_sets.c.region != region
            ),
        )
    )
    return Current(
        accounts={row.id: row async for row in accounts},
        users={(row.account_id, row.key): row async for row in users},
        access_keys={row.id: row async for row in keys},
        sealed={row.id: row.secret async for row in secrets},
        identities={(row.account_id, row.name): row async for row in registered},
        dkim_keys=await _by_owner(of_dkim),
        policies=await _policies(connection, region),
        gone=await _gone(connection, region),
        quotas=await _quotas(connection, region),
        elsewhere=frozenset(row.account_id for row in elsewhere),
        with_topics=frozenset(row.account_id for row in with_topics),
        parts=await read_parts(connection, region),
    )


async def _paged(
    page: Callable[..., Awaitable[list[T]]], position: Callable[[T], A], after: A
) -> AsyncIterator[T]:
    """All rows, a few at a time, so that the event loop is never blocked for long."""
    while True:
        rows = await page(after=after, limit=_PAGE)
        for row in rows:
            yield row
        if len(rows) < _PAGE:
            return
        after = position(rows[-1])


async def _rows(connection: AsyncConnection, query: Executable) -> AsyncIterator[Any]:
    """The same for a query."""
    async with connection.stream(query, execution_options={"yield_per": _PAGE}) as found:
        async for row in found:
            yield row


async def _by_owner(
    rows: AsyncIterator[DkimKeyRow],
) -> Mapping[Owned, Mapping[str, DkimKeyRow]]:
    found: defaultdict[Owned, dict[str, DkimKeyRow]] = defaultdict(dict)
    async for row in rows:
        found[row.account_id, row.domain][row.selector] = row
    return found


async def _policies(
    connection: AsyncConnection, region: str
) -> Mapping[_OwnerKey, Mapping[str, PolicyRow]]:
    found: defaultdict[_OwnerKey, dict[str, PolicyRow]] = defaultdict(dict)
    query = (
        select(*_owner(policies), *_POLICY)
        .where(policies.c.region.in_(("", region)))
        .order_by(*_owner(policies), policies.c.name)
    )
    async for row in _rows(connection, query):
        found[row.kind, row.account_id, row.region, row.subject][row.name] = PolicyRow(
            row.name, row.document, row.version, row.changed_at, row.changed_by
        )
    return found


async def _gone(
    connection: AsyncConnection, region: str
) -> Mapping[_OwnerKey, Mapping[str, int]]:
    found: defaultdict[_OwnerKey, dict[str, int]] = defaultdict(dict)
    table = policy_versions
    # The last version of a deleted policy is the one without a document. A later one may be
    # there again, and then counts.
    query = (
        select(*_owner(table), table.c.name, func.max(table.c.version).label("version"))
        .where(table.c.region.in_(("", region)), table.c.document.is_(None))
        .group_by(*_owner(table), table.c.name)
    )
    async for row in _rows(connection, query):
        found[row.kind, row.account_id, row.region, row.subject][row.name] = row.version
    return found


async def _quotas(
    connection: AsyncConnection, region: str
) -> Mapping[_OwnerKey, Mapping[str, Quota]]:
    found: defaultdict[_OwnerKey, dict[str, Quota]] = defaultdict(dict)
    query = (
        select(*_owner(quotas), quotas.c.delegate_id, *QUOTA_COLUMNS)
        .where(quotas.c.region.in_(("", region)))
        .order_by(*_owner(quotas), quotas.c.delegate_id)
    )
    async for row in _rows(connection, query):
        owner = row.kind, row.account_id, row.region, row.subject
        found[owner][row.delegate_id] = quota_in(row)
    return found


def _owner(table: Table) -> tuple[ColumnElement[str], ...]:
    return table.c.kind, table.c.account_id, table.c.region, table.c.subject
