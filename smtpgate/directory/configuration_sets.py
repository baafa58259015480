"""Configuration sets in the directory, with their event destinations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, func, select, tuple_

from smtpgate.core.notification.names import configuration_set_name
from smtpgate.core.notification.settings import EVENT_TYPES
from smtpgate.directory.accounts import account
from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    MissingSetError,
    RefusedChangeError,
)
from smtpgate.directory.reputations import drop_set_reputations
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
from smtpgate.directory.schema import configuration_sets, event_destinations, identities
from smtpgate.directory.tags import Tagged, drop_all_tags
from smtpgate.directory.topics import must_have_topic
from smtpgate.sql.asynchronous import AsyncConnection

MAX_SETS: Final = 10_000  # of an account, as SES
MAX_DESTINATIONS: Final = 10  # of a configuration set, as SES


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationSetRow:
    """A stored configuration set.

    ``suppressed_reasons`` are the account's unless they are given.
    """

    account_id: str
    region: str
    name: str
    is_sending: bool = True
    suppressed_reasons: Sequence[str] | None = None
    created_at: datetime | None = None

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("set", self.account_id, self.name)

    @property
    def key(self) -> dict[str, str]:
        """The values of the key columns."""
        return {"account_id": self.account_id, "region": self.region, "name": self.name}

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        reasons = self.suppressed_reasons
        differing = {} if reasons is None else {"suppressed_reasons": list(reasons)}
        return {"is_sending": self.is_sending, **differing}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDestinationRow:
    """A stored event destination; ``types`` are spelled as version 2 of SES's API does."""

    account_id: str
    region: str
    configuration_set: str
    name: str
    types: Sequence[str]
    topic: str
    is_enabled: bool = True

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries: the configuration set."""
        return AuditSubject("set", self.account_id, self.configuration_set)

    @property
    def key(self) -> dict[str, str]:
        """The values of the key columns."""
        names = ("account_id", "region", "configuration_set", "name")
        return {name: getattr(self, name) for name in names}

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        return {
            "destination": self.name,
            "types": list(self.types),
            "topic": self.topic,
            "is_enabled": self.is_enabled,
        }


_SET: Final = columns_of(configuration_sets, ConfigurationSetRow)
_DESTINATION: Final = columns_of(event_destinations, EventDestinationRow)


def event_types(wanted: Sequence[str]) -> tuple[str, ...]:
    """The types, each once, in the order of SES's list. Raises ValueError."""
    unknown = [one for one in wanted if one not in EVENT_TYPES]
    if unknown or not wanted:
        named = ", ".join(EVENT_TYPES)
        problem = f"`{unknown[0]}' is not a type of events" if unknown else "a type is missing"
        raise ValueError(f"{problem}; the types are {named}")
    return tuple(one for one in EVENT_TYPES if one in wanted)


async def configuration_set(
    connection: AsyncConnection, account_id: str, region: str, name: str
) -> ConfigurationSetRow:
    """The configuration set of that name. Raises MissingSetError."""
    key = {"account_id": account_id, "region": region, "name": name}
    query = select(*_SET).where(selects(configuration_sets, key))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise MissingSetError(f"Configuration set <{name}> does not exist.")  # SES's words
    return ConfigurationSetRow(**row._mapping)


async def configuration_set_page(
    connection: AsyncConnection,
    region: str,
    *,
    account_id: str | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> list[ConfigurationSetRow]:
    """Configuration sets in the order of accounts and names, of one account or all."""
    table = configuration_sets
    query = select(*_SET).where(
        table.c.region == region, tuple_(table.c.account_id, table.c.name) > after
    )
    if account_id is not None:
        query = query.where(table.c.account_id == account_id)
    query = query.order_by(table.c.account_id, table.c.name).limit(limit)
    return [ConfigurationSetRow(**row._mapping) for row in await connection.execute(query)]


async def create_configuration_set(
    change: Change, row: ConfigurationSetRow
) -> ConfigurationSetRow:
    """Add a configuration set. Raises NotFoundError, ConflictError, RefusedChangeError."""
    await account(change.connection, row.account_id)
    with refusing(row.subject):
        configuration_set_name(row.name)
    await must_be_new(change, configuration_sets, row.key, row.subject)
    there = select(func.count()).where(configuration_sets.c.account_id == row.account_id)
    if ((await change.connection.execute(there)).scalar() or 0) >= MAX_SETS:
        raise RefusedChangeError(
            f"account {row.account_id} has {MAX_SETS} configuration sets, the most it may"
        )
    (row,) = await add_configuration_sets(change, [row])
    return row


async def add_configuration_sets(
    change: Change, rows: Sequence[ConfigurationSetRow]
) -> list[ConfigurationSetRow]:
    """Add configuration sets that are known to be valid and new."""
    rows = [replace(row, created_at=change.now) for row in rows]
    await insert_rows(change, configuration_sets, list(map(asdict, rows)), rows)
    return rows


async def update_configuration_set(
    change: Change, before: ConfigurationSetRow, changes: Mapping[str, Any]
) -> ConfigurationSetRow:
    """Change columns of a configuration set that was read in this transaction."""
    after = replace(before, **changes)
    return await update_row(
        change, configuration_sets, before.key, before, after, action="change"
    )


async def delete_configuration_set(change: Change, row: ConfigurationSetRow) -> None:
    """Delete a configuration set with its event destinations.

    Raises ConflictError when it is the default one of an identity, whose mail would fail.
    """
    its = identities.c
    is_used = (
        (its.account_id == row.account_id)
        & (its.region == row.region)
        & (its.configuration_set == row.name)
    )
    if (await change.connection.execute(select(exists().where(is_used)))).scalar():
        raise ConflictError(
            f"{row.subject} is the default one of an identity; give that another one first"
        )
    await remove_configuration_sets(change, [row])


async def remove_configuration_sets(
    change: Change, rows: Sequence[ConfigurationSetRow]
) -> None:
    """Delete configuration sets that are known to exist, with their destinations."""
    keys = [row.key for row in rows]
    of_destinations = [
        {"account_id": row.account_id, "region": row.region, "configuration_set": row.name}
        for row in rows
    ]
    await delete_by_key(change, event_destinations, of_destinations)
    await drop_set_reputations(change, [(row.account_id, row.region, row.name) for row in rows])
    await drop_all_tags(
        change, [Tagged(row.account_id, row.region, "set", row.name) for row in rows]
    )
    await delete_rows(change, configuration_sets, keys, rows)


# -- event destinations ------------------------------------------------------------------------


async def destinations_of(
    connection: AsyncConnection, region: str, account_id: str, name: str | None = None
) -> list[EventDestinationRow]:
    """The event destinations of an account's configuration set, or of all of them."""
    key = {"account_id": account_id, "region": region}
    if name is not None:
        key["configuration_set"] = name
    query = select(*_DESTINATION).where(selects(event_destinations, key))
    order = (event_destinations.c.configuration_set, event_destinations.c.name)
    found = await connection.execute(query.order_by(*order))
    return [EventDestinationRow(**row._mapping) for row in found]


async def create_destination(change: Change, row: EventDestinationRow) -> EventDestinationRow:
    """Add an event destination to a configuration set that is there.

    Raises ConflictError, NotFoundError for the topic, RefusedChangeError.
    """
    row = await _checked(change, row)
    await must_be_new(
        change, event_destinations, row.key, f"event destination {row.name} of {row.subject}"
    )
    args = row.region, row.account_id, row.configuration_set
    if len(await destinations_of(change.connection, *args)) >= MAX_DESTINATIONS:
        raise RefusedChangeError(
            f"{row.subject} has {MAX_DESTINATIONS} event destinations, the most it may"
        )
    await add_destinations(change, [row])
    return row


async def add_destinations(change: Change, rows: Sequence[EventDestinationRow]) -> None:
    """Add event destinations that are known to be valid and new."""
    values = [asdict(row) | {"types": list(row.types)} for row in rows]
    await insert_rows(change, event_destinations, values, rows, action="add-destination")


async def update_destination(
    change: Change, before: EventDestinationRow, changes: Mapping[str, Any]
) -> EventDestinationRow:
    """Change an event destination that was read in this transaction. Raises as ``create``."""
    after = await _checked(change, replace(before, **changes), before.topic)
    before = replace(before, types=list(before.types))
    after = replace(after, types=list(after.types))
    return await update_row(
        change, event_destinations, before.key, before, after, action="change-destination"
    )


async def remove_destinations(change: Change, rows: Sequence[EventDestinationRow]) -> None:
    """Delete event destinations that are known to exist."""
    keys = [row.key for row in rows]
    await delete_rows(change, event_destinations, keys, rows, action="delete-destination")


async def _checked(
    change: Change, row: EventDestinationRow, used: str | None = None
) -> EventDestinationRow:
    """The row with its types in order; its topic is checked unless it was ``used`` before."""
    with refusing(f"event destination {row.name} of {row.subject}"):
        configuration_set_name(row.name)
        row = replace(row, types=event_types(row.types))
    if row.topic != used:
        await must_have_topic(change, row.account_id, row.region, row.topic)
    return row
