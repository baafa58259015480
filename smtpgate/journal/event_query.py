"""Queries of the events of messages, and of their sums.

Sums are of whole units of the grain, from the one with ``since`` to the one with ``until``.
They stay when the events go with their records.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Select, func, select

from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.kept_event import KeptEvent
from smtpgate.core.history.record import owner_of
from smtpgate.core.history.usage import Grain, unit_of
from smtpgate.journal.events import COLUMNS, EventRow, event_of
from smtpgate.journal.schema import event_sums, events
from smtpgate.journal.store import JournalStore

Key = Literal["account_id", "user_arn", "access_key", "identity", "configuration_set", "start"]
"""A column that sums are grouped by; ``start`` is the number of the unit of the grain."""

_SUMS: Final = tuple(
    func.coalesce(func.sum(event_sums.c[name]), 0) for name in EventCounts.__struct_fields__
)
_IN_FORCE: Final = events.c.is_provisional == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """A selection of sums; ``None`` selects all.

    ``account_id`` is the account that sent. ``viewer_id`` selects an account's view: what it
    sent, and what others sent with its identities. ``identity`` is an ARN. The name of a
    configuration set and an access key belong to an account, which is to be given too.
    """

    grain: Grain
    since: datetime
    until: datetime
    account_id: str | None = None
    viewer_id: str | None = None
    identity: str | None = None
    configuration_set: str | None = None
    access_key: str | None = None


async def event_counts_by(
    store: JournalStore, asked: EventQuery, *keys: Key
) -> Mapping[tuple[Any, ...], EventCounts]:
    """The sums by the values of some keys, in the order of these.

    Raises JournalUnavailableError.
    """
    columns = [event_sums.c[key] for key in keys]
    query = select(*columns, *_SUMS).where(*_conditions(asked))
    if columns:
        query = query.group_by(*columns)
    found: dict[tuple[Any, ...], EventCounts] = {}
    async with store.reading() as connection:
        for part in _views(query, asked.viewer_id):
            for row in await connection.execute(part):
                key, sums = tuple(row[: len(columns)]), map(int, row[len(columns) :])
                found[key] = found.get(key, EventCounts()) + EventCounts(*sums)
    return dict(sorted(found.items()))


def _views(query: Select[Any], viewer_id: str | None) -> Iterator[Select[Any]]:
    """Each half of a view by its own index; with OR the sums of all accounts may be read."""
    if viewer_id is None:
        yield query
        return
    sender_id, owner_id = event_sums.c.account_id, event_sums.c.owner_id
    yield query.where(sender_id == viewer_id)
    yield query.where(owner_id == viewer_id, sender_id != viewer_id)


def _conditions(asked: EventQuery) -> Iterator[ColumnElement[bool]]:
    columns = event_sums.c
    yield columns.grain == int(asked.grain)
    yield columns.start >= unit_of(asked.grain, asked.since)
    yield columns.start <= unit_of(asked.grain, asked.until)
    if asked.identity is not None:  # the owner is in an index, its identities are not
        yield columns.owner_id == owner_of(asked.identity)
    given = {
        columns.account_id: asked.account_id,
        columns.identity: asked.identity,
        columns.configuration_set: asked.configuration_set,
        columns.access_key: asked.access_key,
    }
    yield from (column == value for column, value in given.items() if value is not None)


async def events_of(store: JournalStore, message_id: str) -> Sequence[KeptEvent]:
    """The events of one message, in order of time. Raises JournalUnavailableError."""
    query = _events(events.c.message_id == message_id)
    return await _read(store, query.order_by(events.c.at_us, events.c.id))


def _events(*conditions: ColumnElement[bool]) -> Select[Any]:
    return select(*COLUMNS).where(_IN_FORCE, *conditions)


async def _read(store: JournalStore, query: Select[Any]) -> Sequence[KeptEvent]:
    async with store.reading() as connection:
        found = await connection.execute(query)
        return [event_of(EventRow._make(row)) for row in found]
