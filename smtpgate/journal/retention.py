"""Deletes records that are too old or too many, in steps between the writes.

Each step is a transaction of a few milliseconds, so no writer waits for long. Records that were
not completed for some time get the outcome ``in-doubt`` here, unless the next gate has done
that before (see presence.py).
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Final, TypeVar

from sqlalchemy import Connection, delete, func, select, text, tuple_

from smtpgate.core.history.usage import Grain, unit_of
from smtpgate.core.message_id import first_id
from smtpgate.core.moments import microseconds, moment
from smtpgate.journal.doubt import Doubt
from smtpgate.journal.rows import COLUMNS, HOUR_US, Row, hour_of
from smtpgate.journal.schema import (
    event_sums,
    events,
    metadata,
    records,
    set_usage,
    statements,
    terms,
    usage,
)
from smtpgate.journal.terms import TermKey
from smtpgate.journal.writer import RecordWriter
from smtpgate.ports import Clock, JournalUnavailableError

# Later than any verdict comes: clients wait 10 minutes (RFC 5321 §4.5.3.2.6), relays less.
GIVEN_UP: Final = timedelta(minutes=15)
_EVERY_S: Final = 60.0
_FIRST_AFTER_S: Final = 1.0  # a start has other work, and the mail that waited for it
_PAUSE_S: Final = 0.02
# Messages wait for a step, and a start after a long time has many: so no more than a fifth of
# the time is theirs.
_PAUSE_A_STEP: Final = 4
_STEP: Final = 250
_TERM_STEP: Final = 2000
_USAGE_STEP: Final = 64  # each on other pages, of the table and of its indexes
# The part of the limit that is freed beyond the excess, so that the next round has less to do.
_SPARE: Final = 0.05
_SHORT_HOURS: Final = 3

T = TypeVar("T")

_Position = tuple[bytes, str]
"""A term and an id of an hour."""
_Step = Callable[[Connection], int]
"""Does a part of the work; the number of rows that it found."""


@dataclass(frozen=True, slots=True)
class Size:
    """The approximate number of records, and of octets with all that is about them."""

    records: int = 0
    octets: int = 0


class Retention:
    """Deletes old records in rounds.

    ``on_change`` is called with the problem when a round fails, and with ``None`` when rounds
    succeed again.
    """

    def __init__(
        self,
        writer: RecordWriter,
        key: TermKey,
        *,
        max_age: timedelta,
        max_octets: int,
        clock: Clock,
        on_change: Callable[[str | None], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.size = Size()
        self.problem: str | None = None
        self._writer = writer
        self._doubt = Doubt(key)
        self._max_age = max_age
        self._max_octets = max_octets
        self._clock = clock
        self._on_change = on_change
        self._on_error = on_error

    async def run(self) -> None:
        """Do a round each minute, for ever."""
        await asyncio.sleep(_FIRST_AFTER_S)
        while True:
            await self.attempt()
            await asyncio.sleep(_EVERY_S)

    async def attempt(self) -> None:
        """Do a round; a failure is reported, and the next round tries again."""
        try:
            await self.round()
        except JournalUnavailableError as error:
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - the next round may fare better
            self._on_error(error)
            self._note(f"{type(error).__name__}: {error}")
        else:
            self._note(None)

    def _note(self, problem: str | None) -> None:
        """Report when trouble begins and ends; mail does not stop for it."""
        if (problem is None) != (self.problem is None):
            self._on_change(problem)
        self.problem = problem

    async def round(self) -> None:
        """Delete everything that is too old or too much now. Raises JournalUnavailableError."""
        now = self._clock.now()
        before = first_id(now - self._max_age)
        await self._steps(self._unknown_gates(now), _old_records(before), _old_usage(now))
        await self._forget_excess()
        await self._forget_terms(now)
        self.size = await self._writer.run(size_of)

    async def _steps(self, *steps: _Step) -> None:
        """Repeat steps until none finds anything to do.

        A transaction ends after the first that does: messages wait for it.
        """

        def first_that_does(connection: Connection) -> bool:
            return any(step(connection) for step in steps)

        while await self._step(first_that_does):
            pass

    async def _step(self, work: Callable[[Connection], T]) -> T:
        """Do the work in a transaction, and leave the time after it to others."""
        started_s = self._clock.monotonic()
        found = await self._writer.run(work)
        if found:
            took_s = self._clock.monotonic() - started_s
            await asyncio.sleep(max(_PAUSE_S, _PAUSE_A_STEP * took_s))
        return found

    def _unknown_gates(self, now: datetime) -> _Step:
        """Complete the records of gates that are not known any more."""
        is_old = records.c.id < first_id(now - GIVEN_UP)
        return lambda connection: self._doubt.give_up(connection, is_old, now)

    async def _forget_excess(self) -> None:
        """Delete the oldest records when the journal is too large."""
        size = await self._writer.run(size_of)
        if size.octets <= self._max_octets or size.records < 2:
            return
        share = 1 - (1 - _SPARE) * self._max_octets / size.octets
        first = await self._writer.run(_first_seq)
        await self._steps(_first_records(first + int(size.records * share)))

    async def _forget_terms(self, now: datetime) -> None:
        """Delete terms, statements and events that belong to no record."""
        oldest = await self._writer.run(_oldest)
        hour = hour_of(microseconds(now) if oldest is None else oldest.received_us)
        before = first_id(moment(hour * HOUR_US)) if oldest is None else oldest.id
        await self._steps(
            _old_terms(hour),
            _old_statements(hour // 24),
            _old_events(before),
        )
        if oldest is not None and hour_of(microseconds(now)) - hour < _SHORT_HOURS:
            # All records are so recent that a part of an hour matters.
            await self._forget_in_hour(hour, oldest.id)

    async def _forget_in_hour(self, hour: int, before: str) -> None:
        after: _Position | None = (b"", "")
        while after is not None:
            after = await self._step(partial(_some_terms, hour, after, before))


def _oldest(connection: Connection) -> Row | None:
    found = connection.execute(select(*COLUMNS).order_by(records.c.id).limit(1))
    row = found.one_or_none()
    return None if row is None else Row(*row)


def _first_seq(connection: Connection) -> int:
    return connection.execute(select(func.min(records.c.seq))).scalar() or 0


def _old_records(before: str) -> _Step:
    chosen = select(records.c.id).where(records.c.id < before).order_by(records.c.id)
    query = delete(records).where(records.c.id.in_(chosen.limit(_STEP)))
    return lambda connection: connection.execute(query).rowcount


def _first_records(seq: int) -> _Step:
    chosen = select(records.c.seq).where(records.c.seq < seq).order_by(records.c.seq)
    query = delete(records).where(records.c.seq.in_(chosen.limit(_STEP)))
    return lambda connection: connection.execute(query).rowcount


def _old_terms(hour: int) -> _Step:
    columns = (terms.c.hour, terms.c.term, terms.c.id)
    chosen = select(*columns).where(terms.c.hour < hour).order_by(*columns).limit(_TERM_STEP)
    query = delete(terms).where(tuple_(*columns).in_(chosen))
    return lambda connection: connection.execute(query).rowcount


def _some_terms(
    hour: int, after: _Position, before: str, connection: Connection
) -> _Position | None:
    """Delete those of the next terms of an hour that have earlier ids; the last one read."""
    columns = (terms.c.term, terms.c.id)
    query = (
        select(*columns)
        .where(terms.c.hour == hour, tuple_(*columns) > tuple_(*after))
        .order_by(*columns)
        .limit(_TERM_STEP)
    )
    found = connection.execute(query).all()
    gone = [{"t": row.term, "i": row.id} for row in found if row.id < before]
    if gone:
        connection.execute(
            text("DELETE FROM journal_terms WHERE hour = :h AND term = :t AND id = :i"),
            [{"h": hour, **one} for one in gone],
        )
    return (found[-1].term, found[-1].id) if len(found) == _TERM_STEP else None


def _old_statements(day: int) -> _Step:
    chosen = select(statements.c.digest).where(statements.c.last_day < day).limit(_STEP)
    query = delete(statements).where(statements.c.digest.in_(chosen))
    return lambda connection: connection.execute(query).rowcount


def _old_events(before: str) -> _Step:
    is_old = events.c.message_id < before
    chosen = select(events.c.id).where(is_old).order_by(events.c.message_id).limit(_STEP)
    query = delete(events).where(events.c.id.in_(chosen))
    return lambda connection: connection.execute(query).rowcount


def _old_usage(now: datetime) -> _Step:
    queries = []
    for grain, table in product(Grain, (usage, set_usage, event_sums)):
        keys = tuple(table.primary_key)
        is_old = table.c.start < unit_of(grain, now - grain.kept)
        chosen = select(*keys).where(table.c.grain == int(grain), is_old).limit(_USAGE_STEP)
        queries.append(delete(table).where(tuple_(*keys).in_(chosen)))
    return lambda connection: sum(connection.execute(query).rowcount for query in queries)


def size_of(connection: Connection) -> Size:
    """The approximate size, by queries that take the same time for any size."""
    seqs = connection.execute(select(func.min(records.c.seq), func.max(records.c.seq))).one()
    number = 0 if seqs[0] is None else seqs[1] - seqs[0] + 1
    if connection.dialect.name == "sqlite":
        pages, free, length = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0
            for name in ("page_count", "freelist_count", "page_size")
        )
        return Size(number, (pages - free) * length)
    return Size(number, sum(_server_octets(connection, metadata.tables)))


def _server_octets(connection: Connection, tables: Iterable[str]) -> Iterable[int]:
    """The octets of each table without its dead rows, whose room is used again."""
    query = text(
        "SELECT pg_total_relation_size(relid) AS octets, n_live_tup AS live, "
        "n_dead_tup AS dead FROM pg_stat_user_tables WHERE relname = :name"
    )
    for name in tables:
        for row in connection.execute(query, {"name": name}):
            rows = row.live + row.dead
            yield row.octets * row.live // rows if rows else 0
