"""Queries of usage: messages that an account sent, or that others sent with its identities.

With the events of such mail, each in the period in which it happened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import CompoundSelect, Select, func, select, union

from smtpgate.core.history.record import owner_of
from smtpgate.core.history.search import is_user
from smtpgate.core.history.usage import (
    ACCEPTED,
    Counts,
    Grain,
    UsageKey,
    UsageRow,
    start_of,
    unit_of,
    with_events,
)
from smtpgate.journal.event_query import EventQuery, Key, event_counts_by
from smtpgate.journal.schema import usage
from smtpgate.journal.store import JournalStore


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A selection of sums; ``None`` selects all. ``user`` is ``ACCOUNT/NAME``.

    ``account_id`` selects an account's view: messages that it sent, and messages that others
    sent with its identities. ``sender_id`` selects what one account sent. Units of time are
    whole, from the one with ``since`` to the one with ``until``.
    """

    grain: Grain
    since: datetime
    until: datetime
    account_id: str | None = None
    sender_id: str | None = None
    user: str | None = None
    identity: str | None = None


async def usage_rows(store: JournalStore, asked: UsageQuery) -> Sequence[UsageRow]:
    """The sums, by time. Raises JournalUnavailableError."""
    async with store.reading() as connection:
        rows = [_row(found) for found in await connection.execute(_query(asked))]
    return [row for row in rows if asked.user is None or is_user(asked.user, row.key.user_arn)]


_EVENT_KEYS: Final[tuple[Key, ...]] = ("start", "account_id", "user_arn", "identity")


async def usage_with_events(store: JournalStore, asked: UsageQuery) -> Sequence[UsageRow]:
    """The sums with those of events, by time. Raises JournalUnavailableError."""
    rows, grain = await usage_rows(store, asked), asked.grain
    sender_id = asked.sender_id
    if asked.user is not None:
        sender_id = asked.user.partition("/")[0]
    query = EventQuery(
        grain=grain,
        since=asked.since,
        until=asked.until,
        account_id=sender_id,
        viewer_id=asked.account_id,
        identity=asked.identity,
    )
    found = await event_counts_by(store, query, *_EVENT_KEYS)
    events = {
        (start_of(grain, start), UsageKey(sender, user, identity, ACCEPTED)): counts
        for (start, sender, user, identity), counts in found.items()
        if asked.user is None or is_user(asked.user, user)
    }
    return with_events(rows, events)


async def sent_by_time(store: JournalStore, asked: UsageQuery) -> Mapping[int, Counts]:
    """The sums of each unit of the grain, by its number, without the view of an owner.

    Raises JournalUnavailableError.
    """
    sums = [func.sum(usage.c[name]) for name in Counts.__struct_fields__]
    query = _selected(asked, select(usage.c.start, *sums)).group_by(usage.c.start)
    async with store.reading() as connection:
        found = await connection.execute(query.order_by(usage.c.start))
        return {start: Counts(*map(int, counts)) for start, *counts in found}


def _selected(asked: UsageQuery, query: Select[Any]) -> Select[Any]:
    grain, columns = asked.grain, usage.c
    query = query.where(
        columns.grain == int(grain),
        columns.start >= unit_of(grain, asked.since),
        columns.start <= unit_of(grain, asked.until),
        columns.attempts != 0,  # records in doubt that got a verdict later
    )
    if asked.sender_id is not None:
        query = query.where(columns.account_id == asked.sender_id)
    if asked.user is not None:
        query = query.where(columns.account_id == asked.user.partition("/")[0])
    if asked.identity is not None:  # the owner is in an index, its identities are not
        owner_id = owner_of(asked.identity)
        query = query.where(columns.owner_id == owner_id, columns.identity == asked.identity)
    return query


def _query(asked: UsageQuery) -> CompoundSelect[Any] | Select[Any]:
    query, columns = _selected(asked, select(usage)), usage.c
    order = (
        columns.start, columns.account_id, columns.user_arn, columns.identity, columns.reason
    )  # fmt: skip
    if asked.account_id is None:
        return query.order_by(*order)
    # Each half by its own index; a condition with OR may read the sums of all accounts.
    sent = query.where(columns.account_id == asked.account_id)
    owned = query.where(columns.owner_id == asked.account_id)
    return union(sent, owned).order_by(*(column.name for column in order))


def _row(found: Any) -> UsageRow:  # noqa: ANN401 - a row of a query
    key = UsageKey(found.account_id, found.user_arn, found.identity, found.reason)
    counts = Counts(found.attempts, found.messages, found.recipients, found.octets)
    return UsageRow(start_of(Grain(found.grain), found.start), key, counts)
