"""Questions to the journal: one record by its id, those that a search is for, new ones."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain, starmap
from typing import Any, Final

from msgspec import structs
from sqlalchemy import ColumnElement, Select, exists, func, select

from smtpgate.core.address import Mailbox, parse_forward_path
from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.message_id import first_id
from smtpgate.core.moments import microseconds, moment
from smtpgate.journal.rows import (
    COLUMNS,
    Row,
    digests_in,
    hour_of,
    record_of,
)
from smtpgate.journal.schema import events, records, statements, terms
from smtpgate.journal.store import JournalStore
from smtpgate.journal.term_sorting import having_recently, terms_in
from smtpgate.journal.terms import TermKey
from smtpgate.sql.asynchronous import AsyncConnection

_PAGE: Final = 200
# Hours that are searched at once: first few, so that frequent records are found soon.
_FIRST_HOURS: Final = 1
_MOST_HOURS: Final = 512
# PostgreSQL's numbers are given before their transactions end, in any order.
_OVERLAP: Final = 500


class JournalReader:
    """Reads records. Every method raises JournalUnavailableError."""

    def __init__(self, store: JournalStore, key: TermKey) -> None:
        self.store = store
        self._key = key

    async def get(self, record_id: str) -> Record | None:
        """The record of that id."""
        async with self.store.reading() as connection:
            query = select(*COLUMNS).where(records.c.id == record_id)
            found = (await connection.execute(query)).one_or_none()
            if found is None:
                return None
            return (await _records(connection, [Row(*found)]))[0]

    async def with_recipients(self, record: Record, addresses: Collection[str]) -> Record:
        """A record without recipients, with those of the addresses that it has a term for.

        Its message was sent to these, or from them. A record that has recipients is the same.
        """
        named = {self._key.address(one): one.casefold() for one in addresses}
        if record.forward_paths is not None or not named:
            return record
        hour, wanted = hour_of(microseconds(record.received_at)), list(named)
        of_it = terms.c.hour == hour, terms.c.id == record.id
        of_row = select(records.c.digests).where(records.c.id == record.id)
        found: set[bytes] = set()
        async with self.store.reading() as connection:
            for at in range(0, len(wanted), _PAGE):
                query = select(terms.c.term).where(
                    *of_it, terms.c.term.in_(wanted[at : at + _PAGE])
                )
                found.update((await connection.execute(query)).scalars())
            digests = (await connection.execute(of_row)).scalar()
        found.update(terms_in(digests or b""))
        return structs.replace(
            record, forward_paths=_mailboxes(named[one] for one in wanted if one in found)
        )

    async def find(self, record_ids: Collection[str]) -> Mapping[str, Record]:
        """The records of those ids, as far as there are any."""
        found: dict[str, Record] = {}
        ids = list(record_ids)
        async with self.store.reading() as connection:
            for at in range(0, len(ids), _PAGE):
                query = select(*COLUMNS).where(records.c.id.in_(ids[at : at + _PAGE]))
                rows = [Row(*one) for one in await connection.execute(query)]
                found.update((one.id, one) for one in await _records(connection, rows))
        return found

    async def search(self, search: Search, now: datetime) -> AsyncIterator[Record]:
        """The records that are looked for, the newest first."""
        wanted = self._terms(search)
        async for page in self._pages(wanted, search, now):
            for record in page:
                if search.fits(record):
                    yield record

    async def in_order(self, since: datetime | None = None) -> AsyncIterator[Sequence[Record]]:
        """All records since a moment in pages, the oldest first."""
        search = Search(since=since)
        query = select(*COLUMNS).where(*_in_time(search, records.c.id))
        after = ""
        while True:
            page = query.where(records.c.id > after).order_by(records.c.id).limit(_PAGE)
            rows = await self._rows(page)
            if rows:
                yield await self._with_texts(rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    def _pages(
        self, wanted: Sequence[bytes], search: Search, now: datetime
    ) -> AsyncIterator[Sequence[Record]]:
        if wanted:
            return self._by_term(wanted, search, now)
        return self._by_time(search) if search.event is None else self._by_event(search)

    def _terms(self, search: Search) -> list[bytes]:
        """The terms that all must have, the rarest first as far as one can know."""
        key, parties = self._key, list[bytes]()
        if search.identity is not None:
            parties.append(key.identity(search.identity))
        if search.user is not None:
            parties.append(key.user(search.user))
        if search.account_id is not None:
            parties.append(key.account(search.account_id))
        address = [] if search.address is None else [key.address(search.address)]
        verdict = self._verdict(search)
        if verdict is None:
            return address + parties
        is_name = search.identity is not None and not search.identity.startswith("arn:")
        alone, together = parties[:is_name], parties[is_name:]
        met = [key.both(party, verdict) for party in together]
        return address + (met or [verdict]) + alone

    def _verdict(self, search: Search) -> bytes | None:
        if search.reason not in (None, "accepted", "relaying"):
            return self._key.reason(search.reason or "")
        if search.outcome not in (None, "accepted", "relaying"):
            return self._key.outcome(search.outcome or "")
        return None

    async def _hours(self, search: Search, now: datetime) -> Iterable[Sequence[int]]:
        """The hours to look through, from the last to the first, in growing spans."""
        async with self.store.reading() as connection:
            first_us = (await connection.execute(_received(records.c.id))).scalar()
        if first_us is None:
            return ()
        if search.since is not None:
            first_us = max(first_us, microseconds(search.since))
        # One hour more, for gates whose clocks are ahead of this one.
        until = now + timedelta(hours=1)
        if search.until is not None:
            until = min(search.until, until)
        return _spans(hour_of(first_us), hour_of(microseconds(until)))

    async def _by_time(self, search: Search) -> AsyncIterator[Sequence[Record]]:
        """All records of the time, newest first."""
        query = select(*COLUMNS)
        if search.outcome == "relaying":
            query = query.where(records.c.outcome == "relaying")
        before: str | None = None
        while True:
            page = query.where(*_in_time(search, records.c.id, before))
            rows = await self._rows(page.order_by(records.c.id.desc()).limit(_PAGE))
            if rows:
                yield await self._with_texts(rows)
            if len(rows) < _PAGE:
                return
            before = rows[-1].id

    async def _by_term(
        self, wanted: Sequence[bytes], search: Search, now: datetime
    ) -> AsyncIterator[Sequence[Record]]:
        """The records that have all of the terms, newest first."""
        for hours in await self._hours(search, now):
            before: str | None = None
            while True:
                rows = await self._having_all(wanted, hours, search, before)
                if rows:
                    yield await self._with_texts(rows)
                if len(rows) < _PAGE:
                    break
                before = rows[-1].id

    async def _having_all(
        self, wanted: Sequence[bytes], hours: Sequence[int], search: Search, before: str | None
    ) -> Sequence[Row]:
        """A page of records of some hours that have all of the terms."""
        queries = [(_having(wanted, hours), terms.c.id)]
        if self.store.database.is_sqlite:
            queries.append((having_recently(wanted, hours), records.c.id))
        found: dict[str, Row] = {}
        async with self.store.reading() as connection:  # both see one moment
            for query, column in queries:
                conditions = *_in_time(search, column, before), *_had(search, column)
                page = query.where(*conditions).order_by(column.desc()).limit(_PAGE)
                for row in starmap(Row, await connection.execute(page)):
                    found[row.id] = row
        return [found[record_id] for record_id in sorted(found, reverse=True)[:_PAGE]]

    async def _by_event(self, search: Search) -> AsyncIterator[Sequence[Record]]:
        """The records of messages with an event of that kind, newest first."""
        column, before = events.c.message_id, None
        query = select(column).where(*_of_kind(search.event)).distinct()
        while True:
            page = query.where(*_in_time(search, column, before))
            page = page.order_by(column.desc()).limit(_PAGE)
            async with self.store.reading() as connection:
                ids = list((await connection.execute(page)).scalars())
            if ids:
                of_these = select(*COLUMNS).where(records.c.id.in_(ids))
                rows = await self._rows(of_these.order_by(records.c.id.desc()))
                yield await self._with_texts(rows)
            if len(ids) < _PAGE:
                return
            before = ids[-1]

    async def extent(self) -> dict[str, Any]:
        """About how many records there are, from when to when, and how many have no verdict."""
        seqs = select(func.min(records.c.seq), func.max(records.c.seq))
        open_ = select(func.count()).where(records.c.outcome == "relaying")
        async with self.store.reading() as connection:
            first, last = (await connection.execute(seqs)).one()
            oldest = (await connection.execute(_received(records.c.id))).scalar()
            latest = (await connection.execute(_received(records.c.id.desc()))).scalar()
            return {
                "records": 0 if first is None else last - first + 1,
                "relaying": (await connection.execute(open_)).scalar_one(),
                "oldest": None if oldest is None else moment(oldest),
                "newest": None if latest is None else moment(latest),
            }

    async def follower(self) -> "Follower":
        """A reader of all records that get a verdict from now on."""
        follower = Follower(self.store)
        await follower.poll()
        return follower

    async def _rows(self, query: Select[Any]) -> list[Row]:
        async with self.store.reading() as connection:
            return [Row(*found) for found in await connection.execute(query)]

    async def _with_texts(self, rows: Sequence[Row]) -> list[Record]:
        async with self.store.reading() as connection:
            return await _records(connection, rows)


class Follower:
    """Tells of each record once, when it has its verdict."""

    def __init__(self, store: JournalStore) -> None:
        self.store = store
        self._overlap = 0 if store.database.is_sqlite else _OVERLAP
        self._last: int | None = None
        self._pending: set[int] = set()
        self._shown: set[int] = set()

    async def poll(self) -> Sequence[Record]:
        """The records that got a verdict since the last call; none at the first call."""
        async with self.store.reading() as connection:
            if self._last is None:
                await self._begin(connection)
                return ()
            query = select(records.c.seq, *COLUMNS).order_by(records.c.seq)
            place = records.c.seq > self._last - self._overlap
            found = (await connection.execute(query.where(place))).all()
            if self._pending:
                waited_for = records.c.seq.in_(self._pending)
                found = [*(await connection.execute(query.where(waited_for))), *found]
            return await _records(connection, list(self._fresh(found)))

    async def _begin(self, connection: AsyncConnection) -> None:
        last = await connection.execute(select(func.max(records.c.seq)))
        self._last = last.scalar() or 0
        query = select(records.c.seq).where(records.c.outcome == "relaying")
        self._pending = {row.seq for row in await connection.execute(query)}
        window = select(records.c.seq).where(records.c.seq > self._last - self._overlap)
        self._shown = {row.seq for row in await connection.execute(window)} - self._pending

    def _fresh(self, found: Iterable[Any]) -> Iterator[Row]:
        for one in found:
            if one.seq in self._shown:
                continue
            self._last = max(self._last or 0, one.seq)
            if one.outcome == "relaying":
                self._pending.add(one.seq)
            else:
                self._pending.discard(one.seq)
                self._shown.add(one.seq)
                yield Row(*one[1:])
        least = (self._last or 0) - self._overlap
        self._shown = {seq for seq in self._shown if seq > least}


async def _records(connection: AsyncConnection, rows: Sequence[Row]) -> list[Record]:
    digests = set(chain.from_iterable(map(digests_in, rows)))
    texts: dict[str, str] = {}
    if digests:
        query = select(statements.c.digest, statements.c.text)
        found = await connection.execute(query.where(statements.c.digest.in_(digests)))
        texts = {row.digest: row.text for row in found}
    return [record_of(row, texts) for row in rows]


def _received(order: ColumnElement[str]) -> Select[Any]:
    """When the first record in that order came in."""
    return select(records.c.received_us).order_by(order).limit(1)


def _mailboxes(addresses: Iterable[str]) -> tuple[Mailbox, ...]:
    """Addresses in the form of a record; one that is no address has no term."""
    return tuple(parse_forward_path(f"<{one}>") for one in addresses)


def _having(wanted: Sequence[bytes], hours: Sequence[int]) -> Select[Any]:
    """Records of some hours that have all of the terms."""
    first, *others = wanted
    query = (
        select(*COLUMNS)
        .join(terms, terms.c.id == records.c.id)
        .where(terms.c.hour.in_(hours), terms.c.term == first)
    )
    for term in others:
        other = terms.alias()
        query = query.where(
            exists().where(
                other.c.hour == terms.c.hour, other.c.term == term, other.c.id == terms.c.id
            )
        )
    return query


def _of_kind(kind: str | None) -> tuple[ColumnElement[bool], ...]:
    return events.c.kind == kind, events.c.is_provisional == 0


def _had(search: Search, column: ColumnElement[str]) -> list[ColumnElement[bool]]:
    """The event that a message has had, where the search wants one."""
    if search.event is None:
        return []
    return [exists().where(events.c.message_id == column, *_of_kind(search.event))]


def _in_time(
    search: Search, column: ColumnElement[str], before: str | None = None
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if before is not None:
        found.append(column < before)
    if search.since is not None:
        found.append(column >= first_id(search.since))
    if search.until is not None:
        found.append(column < first_id(search.until + timedelta(milliseconds=1)))
    return found


def _spans(first: int, last: int) -> Iterator[list[int]]:
    """The hours from the last to the first, in growing spans."""
    length = _FIRST_HOURS
    while last >= first:
        start = max(first, last - length + 1)
        yield list(range(start, last + 1))
        last, length = start - 1, min(2 * length, _MOST_HOURS)
