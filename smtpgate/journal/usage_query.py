"""Queries of usage: messages that an account sent, or that others sent with its identities."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CompoundSelect, Select, select, union

from smtpgate.core.history.record import owner_of
from smtpgate.core.history.search import is_user
from smtpgate.core.history.usage import Counts, Grain, UsageKey, UsageRow, start_of, unit_of
from smtpgate.journal.schema import usage
from smtpgate.journal.store import JournalStore


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A selection of sums; ``None`` selects all. ``user`` is ``ACCOUNT/NAME``.

    ``account_id`` selects an account's view: messages that it sent, and messages that others
    sent with its identities. Units of time are whole, from the one with ``since`` to the one
    with ``until``.
    """

    grain: Grain
    since: datetime
    until: datetime
    account_id: str | None = None
    user: str | None = None
    identity: str | None = None


async def usage_rows(store: JournalStore, asked: UsageQuery) -> Sequence[UsageRow]:
    """The sums, by time. Raises JournalUnavailableError."""
    async with store.reading() as connection:
        rows = [_row(found) for found in await connection.execute(_query(asked))]
    return [row for row in rows if asked.user is None or is_user(asked.user, row.key.user_arn)]


def _query(asked: UsageQuery) -> CompoundSelect[Any] | Select[Any]:
    grain, columns = asked.grain, usage.c
    query = select(usage).where(
        columns.grain == int(grain),
        columns.start >= unit_of(grain, asked.since),
        columns.start <= unit_of(grain, asked.until),
        columns.attempts != 0,  # records in doubt that got a verdict later
    )
    if asked.user is not None:
        query = query.where(columns.account_id == asked.user.partition("/")[0])
    if asked.identity is not None:  # the owner is in an index, its identities are not
        owner_id = owner_of(asked.identity)
        query = query.where(columns.owner_id == owner_id, columns.identity == asked.identity)
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
