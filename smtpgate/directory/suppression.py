"""Suppression lists in the directory: addresses of accounts, and the settings for them.

The audit log names an address only where a person added or removed it by itself: it is never
deleted, and the list has the addresses of people who never dealt with this gate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from msgspec.structs import asdict
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from smtpgate.core.suppression.lists import (
    ALL_REASONS,
    Reasons,
    SuppressedAddress,
    Suppression,
    SuppressionReason,
)
from smtpgate.directory.accounts import account
from smtpgate.directory.change import AuditSubject, Change, Facts, NotFoundError
from smtpgate.directory.rows import selects
from smtpgate.directory.schema import (
    configuration_sets,
    identities,
    suppressed_addresses,
    suppression_settings,
)
from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.database import Database
from smtpgate.sql.insert import insert_into
from smtpgate.sql.lookup import Lookup

_LIST: Final = suppressed_addresses
_SETTINGS: Final = suppression_settings
# SQLite takes 999 parameters where it is old.
_MOST_TOGETHER: Final = 512
_COLUMNS: Final = tuple(_LIST.c[name] for name in SuppressedAddress.__struct_fields__)


@dataclass(frozen=True, slots=True)
class ListKey:
    """The suppression list of an account in a region."""

    account_id: str
    region: str

    @property
    def columns(self) -> dict[str, Any]:
        """The values of the columns that select it."""
        return {"account_id": self.account_id, "region": self.region}

    def subject(self, address: str = "") -> AuditSubject:
        """The subject of audit entries about it."""
        return AuditSubject("list", self.account_id, address)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """A selection of addresses; what is ``None`` selects all."""

    reason: SuppressionReason | None = None
    since: datetime | None = None
    until: datetime | None = None

    def apply(self, query: Select[Any]) -> Select[Any]:
        """The query for these addresses alone."""
        if self.reason is not None:
            query = query.where(_LIST.c.reason == self.reason)
        if self.since is not None:
            query = query.where(_LIST.c.added_at >= self.since)
        if self.until is not None:
            query = query.where(_LIST.c.added_at < self.until)
        return query


EVERY: Final = ListFilter()


# -- addresses ---------------------------------------------------------------------------------


async def suppressed(
    connection: AsyncConnection, key: ListKey, address: str
) -> SuppressedAddress:
    """The entry of an address. Raises NotFoundError."""
    query = select(*_COLUMNS).where(_of(key), _LIST.c.address == address)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _missing(key, address)
    return SuppressedAddress(**row._mapping)


async def suppressed_page(
    connection: AsyncConnection,
    key: ListKey,
    wanted: ListFilter = EVERY,
    *,
    after: str = "",
    limit: int | None = None,
) -> list[SuppressedAddress]:
    """Entries in the order of their addresses, those behind ``after``."""
    query = select(*_COLUMNS).where(_of(key), _LIST.c.address > after)
    query = wanted.apply(query).order_by(_LIST.c.address).limit(limit)
    return [SuppressedAddress(**row._mapping) for row in await connection.execute(query)]


async def count_suppressed(
    connection: AsyncConnection, key: ListKey
) -> dict[SuppressionReason, int]:
    """The number of addresses for each reason; it reads the whole list."""
    query = select(_LIST.c.reason, func.count()).where(_of(key)).group_by(_LIST.c.reason)
    found = {row[0]: row[1] for row in await connection.execute(query)}
    return {reason: found.get(reason, 0) for reason in ALL_REASONS}


async def reasons_of(
    database: Database, key: ListKey, addresses: Sequence[str]
) -> dict[str, SuppressionReason]:
    """The addresses that are on a list, with their reasons; at least one is asked for.

    They are asked for in as few sizes of a query as possible, which the driver keeps.
    """
    found: dict[str, SuppressionReason] = {}
    for at in range(0, len(addresses), _MOST_TOGETHER):
        some = addresses[at : at + _MOST_TOGETHER]
        size = 1 << (len(some) - 1).bit_length()
        padded = (*some, *[some[-1]] * (size - len(some)))
        parameters = {f"address_{place}": one for place, one in enumerate(padded)}
        rows = await database.look_up(_lookup(size), {**key.columns, **parameters})
        found.update((address, reason) for address, reason in rows)
    return found


@lru_cache(maxsize=16)
def _lookup(size: int) -> Lookup:
    each: list[BindParameter[str]] = [bindparam(f"address_{place}") for place in range(size)]
    return Lookup(
        select(_LIST.c.address, _LIST.c.reason).where(
            _LIST.c.account_id == bindparam("account_id"),
            _LIST.c.region == bindparam("region"),
            _LIST.c.address.in_(each),
        )
    )


async def put_addresses(
    change: Change,
    key: ListKey,
    entries: Sequence[SuppressedAddress],
    *,
    keeps_complaints: bool = False,
    action: str = "add",
    note: Facts | None = None,
) -> None:
    """Add addresses, or change the reason of those that are there.

    ``keeps_complaints`` leaves a complaint where a bounce follows. Without ``note`` the audit
    log gets the entry of the only address. Raises NotFoundError for the account.
    """
    if not entries:
        return
    _ = await account(change.connection, key.account_id)
    row = insert_into(_LIST, change.connection.dialect)
    new = row.excluded
    row = row.on_conflict_do_update(
        index_elements=list(_LIST.primary_key.columns),
        set_={name: new[name] for name in ("reason", "added_at", "message_id")},
        where=or_(new.reason == "COMPLAINT", _LIST.c.reason == "BOUNCE")
        if keeps_complaints
        else None,
    )
    # A statement changes a row once only.
    each = {one.address: key.columns | asdict(one) for one in entries}
    await change.connection.execute(row, list(each.values()))
    if note is None:
        (one,) = entries
        await change.note(action, key.subject(one.address), after={"reason": one.reason})
    else:
        await change.note(action, key.subject(), after=note)
    await _note_use(change, key, has_addresses=True)


async def remove_address(change: Change, key: ListKey, address: str) -> None:
    """Remove an address. Raises NotFoundError."""
    before = await suppressed(change.connection, key, address)
    await change.connection.execute(_without([address], key))
    facts = {"reason": before.reason}
    await change.note("remove", key.subject(address), before=facts)
    await _note_removal(change, key)


async def remove_addresses(change: Change, key: ListKey, addresses: Sequence[str]) -> int:
    """Remove those addresses that are there; the number of them."""
    found = await change.connection.execute(_without(addresses, key))
    if found.rowcount:
        await change.note("remove", key.subject(), before={"addresses": found.rowcount})
        await _note_removal(change, key)
    return found.rowcount


def _without(addresses: Sequence[str], key: ListKey) -> Any:  # noqa: ANN401 - a statement
    return delete(_LIST).where(_of(key), _LIST.c.address.in_(addresses))


def _of(key: ListKey) -> ColumnElement[bool]:
    return selects(_LIST, key.columns)


def _missing(key: ListKey, address: str) -> NotFoundError:
    return NotFoundError(f"{address} is not on the suppression list of {key.account_id}")


# -- settings ----------------------------------------------------------------------------------


async def suppression(connection: AsyncConnection, key: ListKey) -> Suppression:
    """The settings of an account."""
    its = _SETTINGS.c
    query = select(its.reasons, its.has_addresses).where(selects(_SETTINGS, key.columns))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return Suppression()
    reasons = ALL_REASONS if row.reasons is None else tuple(row.reasons)
    return Suppression(reasons, row.has_addresses)


async def sets_that_differ(connection: AsyncConnection, key: ListKey) -> dict[str, Reasons]:
    """The configuration sets with other reasons than their account, by their names."""
    its = configuration_sets.c
    query = select(its.name, its.suppressed_reasons).where(
        selects(configuration_sets, key.columns), its.suppressed_reasons.is_not(None)
    )
    found = await connection.execute(query.order_by(its.name))
    return {
        row.name: tuple(row.suppressed_reasons)
        for row in found
        if row.suppressed_reasons is not None
    }


async def identities_for_delegates(connection: AsyncConnection, key: ListKey) -> list[str]:
    """The identities of which the list is used for the mail of all senders."""
    its = identities.c
    query = select(its.name).where(selects(identities, key.columns), its.suppresses_delegates)
    return list((await connection.execute(query.order_by(its.name))).scalars())


async def set_reasons(change: Change, key: ListKey, reasons: Reasons) -> None:
    """Set the reasons for which an account's list is used. Raises NotFoundError."""
    _ = await account(change.connection, key.account_id)
    before = await suppression(change.connection, key)
    if before.reasons == reasons:
        return
    await _write(change, key, {"reasons": list(reasons)})
    await change.note(
        "set-reasons",
        key.subject(),
        before={"reasons": list(before.reasons)},
        after={"reasons": list(reasons)},
    )


async def _note_removal(change: Change, key: ListKey) -> None:
    is_left = (await change.connection.execute(select(exists().where(_of(key))))).scalar()
    if not is_left:
        await _note_use(change, key, has_addresses=False)


async def _note_use(change: Change, key: ListKey, *, has_addresses: bool) -> None:
    """Write whether the list has addresses: without any, no message asks for it.

    The entry is the account's, so that what is cached of the account is read again.
    """
    had_addresses = (await suppression(change.connection, key)).has_addresses
    if had_addresses == has_addresses:
        return
    await _write(change, key, {"has_addresses": has_addresses})
    await change.note(
        "use-list",
        AuditSubject("account", key.account_id),
        before={"has_suppressed": had_addresses},
        after={"has_suppressed": has_addresses},
    )


async def _write(change: Change, key: ListKey, values: Mapping[str, Any]) -> None:
    done = await change.connection.execute(
        update(_SETTINGS).where(selects(_SETTINGS, key.columns)).values(values)
    )
    if not done.rowcount:
        new = {"has_addresses": False, **values}
        await change.connection.execute(insert(_SETTINGS), [key.columns | new])
