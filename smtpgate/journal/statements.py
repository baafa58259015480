"""The statements of one transaction: many records at once, each with its terms and its usage.

Usage is added up in the same transaction as the verdicts that it counts, so the two never
differ. A verdict completes a row that has none. When such a row is missing (another gate took
this one for dead, or the file is another one), nothing is written, and the entries are written
again as entries that may be there. Their rows are read first, and not counted twice.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import astuple, replace
from sqlalchemy import Connection, Table, bindparam, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.base import Executable

from smtpgate.core.history.record import owner_of
from smtpgate.core.history.usage import ACCEPTED, Counts, Grain, UsageKey, usage_of
from smtpgate.journal import term_sorting
from smtpgate.journal.events import EventRow, EventStatements
from smtpgate.journal.rows import COLUMNS, Row, Texts, day_of, hour_of
from smtpgate.journal.schema import meta, records, set_usage, statements, terms, usage
from smtpgate.journal.tasks import TaskRow, TaskStatements
from smtpgate.journal.terms import TERM_OCTETS
from smtpgate.sql.batches import Plain, SqlStatement
from smtpgate.sql.insert import insert_into

Increments = dict[tuple[int, UsageKey], Counts]
"""By the number of the 15 minutes; the other sums follow from these."""

_VERDICT: Final = ("done_us", "outcome", "reason", "verdict", "id")
# The columns that have the same value in every row without a verdict.
_BEGUN: Final = {"outcome": "relaying", "reason": "relaying", "verdict": "{}"}
_BEGINNING: Final = tuple(
    name for name in Row.__struct_fields__ if name not in _BEGUN and name != "done_us"
)
_TERMS: Final = "digests"
_WHOLE: Final = (*Row.__struct_fields__, _TERMS)
_SUMS: Final = ("attempts", "messages", "recipients", "octets")
_POINT_US: Final = Grain.POINT * 60_000_000
_POINTS_A_GRAIN: Final = tuple((int(grain), grain // Grain.POINT) for grain in Grain)
_NONE: Final = Counts()
_NO_TEXTS: Final[frozenset[str]] = frozenset()
_SQLITE: Final = pysqlite.dialect()
_READ_ROW: Final = (
    f"SELECT {', '.join(Row.__struct_fields__)} FROM journal_records WHERE id = ?"  # noqa: S608 - names of ours
)
# A driver reports the number of changed rows for one statement, not for many executions; and at
# each execution SQLite's driver releases the interpreter's lock several times.
_FINISH_IN_SQLITE: Final = """
UPDATE OR ROLLBACK journal_records
SET done_us = v.column1, outcome = v.column2, reason = v.column3, verdict = v.column4
FROM (VALUES (?, ?, ?, ?, ?)) AS v
WHERE journal_records.id = v.column5 AND journal_records.outcome = 'relaying'
"""
_FINISH: Final = """
UPDATE journal_records AS r
SET done_us = v.done_us, outcome = v.outcome, reason = v.reason, verdict = v.verdict
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS v(done_us, outcome, reason, verdict, id)
WHERE r.id = v.id AND r.outcome = 'relaying'
"""


class Entry(Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """A record to be written, before the relay or with its verdict.

    ``early_terms`` and ``late_terms`` have one term after the other, as they are written.

    ``is_begun`` says that the row should be there without a verdict. ``may_be_there`` says that
    this is not known. ``is_final`` is false before the relay. ``tasks`` and ``events`` come
    into force with the verdict; where they are empty, and not absent, provisional ones are
    deleted. ``configuration_set`` is that of an accepted message, or empty.
    """

    row: Row
    texts: Texts
    early_terms: bytes
    late_terms: bytes = b""
    is_final: bool = True
    is_begun: bool = False
    may_be_there: bool = False
    tasks: tuple[TaskRow, ...] | None = None
    events: tuple[EventRow, ...] | None = None
    configuration_set: str = ""


def _beginning(row: Row, digests: bytes | None) -> tuple[Any, ...]:
    """The columns of ``_BEGINNING``, and the terms."""
    return (
        row.id,
        row.kind,
        row.received_us,
        row.account_id,
        row.user_arn,
        row.from_identity,
        row.octets,
        row.recipients,
        row.facts,
        row.writer,
        digests,
    )


class _Rows:
    """The rows of entries, by the statement that writes them.

    ``whole`` are the entries whose rows may be new, and ``late`` those of other rows whose
    verdict added terms. ``with_more`` have events, tasks or a configuration set.
    """

    def __init__(self, entries: Sequence[Entry], *, terms_in_row: bool) -> None:
        self.increments: Increments = {}
        self.whole: list[Entry] = []
        self.late: list[Entry] = []
        self.verdicts: list[tuple[Any, ...]] = []
        self.begun: list[tuple[Any, ...]] = []
        self.kept: list[tuple[Any, ...]] = []
        self.term_octets = 0
        self.with_more = [
            one
            for one in entries
            if one.tasks is not None or one.events is not None or one.configuration_set
        ]
        for entry in entries:
            if entry.is_final:
                _count(self.increments, entry.row, 1)
            if entry.is_begun and not entry.may_be_there:
                self._complete(entry)
            else:
                self._add(entry, terms_in_row=terms_in_row)

    def _complete(self, entry: Entry) -> None:
        row = entry.row
        self.verdicts.append((row.done_us, row.outcome, row.reason, row.verdict, row.id))
        if entry.late_terms:
            self.late.append(entry)
            self.term_octets += len(entry.late_terms)

    def _add(self, entry: Entry, *, terms_in_row: bool) -> None:
        digests = entry.early_terms + entry.late_terms
        in_it = digests if terms_in_row else None
        self.term_octets += len(digests)
        self.whole.append(entry)
        if entry.is_final:
            self.kept.append((*astuple(entry.row), in_it))
        else:
            self.begun.append(_beginning(entry.row, in_it))


class RowsChangedError(Exception):
    """A row that was begun is gone, or has a verdict already."""


class RecordStatements:
    """Writes entries by prepared statements; remembers which policy statements are stored."""

    def __init__(self) -> None:
        self._prepared: _Prepared | None = None
        self._known: dict[int, set[str]] = {}  # digests, by the day
        self._new: set[tuple[int, str]] = set()
        self._file: sqlite3.Connection | None = None
        self._tasks = TaskStatements()
        self._events = EventStatements()

    def write(self, connection: Plain, entries: Sequence[Entry]) -> int:
        """Write all entries, in the connection's transaction, or raise RowsChangedError.

        Returns the number of their terms.
        """
        if isinstance(connection, sqlite3.Connection) and connection is not self._file:
            self.forget()  # the path may lead to another file now
            self._file = connection
        prepared = self._for(connection)
        entries = _one_a_row(entries)
        rows = _Rows(entries, terms_in_row=prepared.terms_in_row)
        earlier = self._earlier(connection, rows.whole) if rows.kept else ()
        for row in earlier:
            _count(rows.increments, row, -1)
        self._write_texts(connection, rows.whole)
        prepared.begin.run(connection, rows.begun)
        prepared.keep.run(connection, rows.kept)
        if prepared.finish.run(connection, rows.verdicts) != len(rows.verdicts):
            raise RowsChangedError
        self._write_terms(connection, rows)
        prepared.usage.run(connection, _usage_rows(rows.increments))
        if rows.with_more:
            self._write_set_usage(connection, rows.with_more, earlier)
            self._write_events(connection, rows.with_more)
            self._write_tasks(connection, rows.with_more)
        return rows.term_octets // TERM_OCTETS

    def _write_set_usage(
        self, connection: Plain, entries: Sequence[Entry], earlier: Sequence[Row]
    ) -> None:
        with_set = [entry for entry in entries if entry.configuration_set]
        if with_set:
            counted = {row.id for row in earlier if row.outcome == ACCEPTED}
            rows = _set_usage_rows(e for e in with_set if e.row.id not in counted)
            self._for(connection).set_usage.run(connection, rows)

    def _write_events(self, connection: Plain, entries: Sequence[Entry]) -> None:
        entries = [entry for entry in entries if entry.events is not None]
        if not entries:
            return
        rows = [row for entry in entries for row in entry.events or ()]
        _ = self._events.keep(connection, rows)
        self._events.drop(connection, [entry.row.id for entry in entries])

    def _write_terms(self, connection: Plain, rows: _Rows) -> None:
        """Write the terms that are not in the rows."""
        prepared, late = self._for(connection), rows.late
        if not prepared.terms_in_row:
            found = [
                row for e in rows.whole for row in _term_rows(e, e.early_terms + e.late_terms)
            ]
            found += [row for e in late for row in _term_rows(e, e.late_terms)]
        elif late or rows.kept:
            # The early ones are in the row, or are sorted in.
            apart = [entry for entry in rows.whole if entry.may_be_there]
            added = [(entry.late_terms, entry.row.id) for entry in late]
            if added and not term_sorting.add(connection, added):
                apart += late
            found = [row for e in apart for row in _term_rows(e, e.late_terms)]
        else:
            return
        prepared.term.run(connection, found)

    def _write_tasks(self, connection: Plain, entries: Sequence[Entry]) -> None:
        entries = [entry for entry in entries if entry.tasks is not None]
        if not entries:
            return
        rows = sorted(row for entry in entries for row in entry.tasks or ())
        self._tasks.keep(connection, rows)
        # Those of an accepted message are all in force now.
        left = [e.row.id for e in entries if not e.tasks or e.row.outcome != "accepted"]
        self._tasks.drop(connection, left)

    def committed(self) -> None:
        """Note that the last write was committed."""
        if not self._new:
            return
        for day, digest in self._new:
            self._known.setdefault(day, set()).add(digest)
        self._new = set()
        latest = max(self._known)
        self._known = {day: some for day, some in self._known.items() if day >= latest - 1}

    def forget(self) -> None:
        """Note that earlier writes may be gone: another file, or a commit without an answer."""
        self._known, self._new = {}, set()

    def _for(self, connection: Plain) -> "_Prepared":
        if self._prepared is None:
            self._prepared = _Prepared.of(connection)
        return self._prepared

    def _earlier(self, connection: Plain, entries: Iterable[Entry]) -> Sequence[Row]:
        """The stored versions of those that may be there, locked until the commit.

        A transaction without an answer may still run in a server that was frozen. Its rows are
        waited for: first those that it makes, then those that it changes.
        """
        rows = [entry.row for entry in entries if entry.may_be_there and entry.is_final]
        if not rows:
            return ()
        if isinstance(connection, sqlite3.Connection):
            return [
                Row(*found)
                for row in rows
                for found in connection.execute(_READ_ROW, (row.id,)).fetchall()
            ]
        if connection.dialect.name == "postgresql":
            prepared = self._for(connection)
            prepared.begin.run(connection, sorted(_beginning(row, None) for row in rows))
        query = (
            select(*COLUMNS)
            .where(records.c.id.in_([row.id for row in rows]))
            .order_by(records.c.id)
            .with_for_update()
        )
        return [Row(*found) for found in connection.execute(query)]

    def _write_texts(self, connection: Plain, entries: Iterable[Entry]) -> None:
        new: dict[tuple[int, str], str] = {}
        for entry in entries:
            day = day_of(entry.row.received_us)
            known = self._known.get(day, _NO_TEXTS)
            if not entry.texts.keys() <= known:
                for digest in entry.texts.keys() - known:
                    new[day, digest] = entry.texts[digest]
        self._new = set(new)
        if not new:
            return
        # In the same order in all gates, so that no two wait for each other's row.
        rows = [
            (digest, text.encode("utf-8", "backslashreplace").decode(), day)
            for (day, digest), text in sorted(new.items(), key=lambda pair: pair[0][1])
        ]
        self._for(connection).text.run(connection, rows)


def write_meta(connection: Plain, name: str, value: str) -> None:
    """Write a row of the table ``meta``."""
    _Prepared.of(connection).meta.run(connection, [(name, value)])


class _Prepared:
    """The statements, compiled for one kind of database."""

    _compiled: ClassVar[dict[tuple[str, str], "_Prepared"]] = {}

    @classmethod
    def of(cls, connection: Plain) -> "_Prepared":
        """The statements for a connection's dialect and driver; to compile them takes 8 ms."""
        dialect: Dialect = _SQLITE
        if isinstance(connection, Connection):
            dialect = connection.dialect
        key = dialect.name, dialect.driver
        if key not in cls._compiled:
            cls._compiled[key] = cls(dialect)
        return cls._compiled[key]

    def __init__(self, dialect: Dialect) -> None:
        self.terms_in_row = dialect.name == "sqlite"
        insert: Any = _insert_in_sqlite
        if dialect.name == "postgresql":
            insert = partial(insert_into, dialect=dialect)

        def prepare(construct: Executable, *names: str) -> SqlStatement:
            statement = SqlStatement.of(construct, dialect)
            assert statement.names == names  # noqa: S101 - rows are tuples in that order
            return statement

        row = insert(records).values({name: bindparam(name) for name in _WHOLE})
        begun = insert(records).values(
            {name: bindparam(name) for name in (*_BEGINNING, _TERMS)}
            | {name: literal_column(f"'{value}'") for name, value in _BEGUN.items()}
        )
        self.begin = prepare(begun.on_conflict_do_nothing(), *_BEGINNING, _TERMS)
        changed = {name: row.excluded[name] for name in _WHOLE if name != "id"}
        self.keep = prepare(
            row.on_conflict_do_update(index_elements=["id"], set_=changed), *_WHOLE
        )
        self.finish: SqlStatement | _AtOnce = SqlStatement(_FINISH_IN_SQLITE, _VERDICT)
        if dialect.name == "postgresql":
            self.finish = _AtOnce(_FINISH)
        term = insert(terms).values({c.name: bindparam(c.name) for c in terms.c})
        self.term = prepare(term.on_conflict_do_nothing(), *(c.name for c in terms.c))
        cited = insert(statements).values({c.name: bindparam(c.name) for c in statements.c})
        later = cited.excluded.last_day > statements.c.last_day
        self.text = prepare(
            cited.on_conflict_do_update(
                index_elements=["digest"],
                set_={"last_day": cited.excluded.last_day},
                where=later,
            ),
            *(c.name for c in statements.c),
        )
        value = insert(meta).values(name=bindparam("name"), value=bindparam("value"))
        self.meta = prepare(
            value.on_conflict_do_update(
                index_elements=["name"], set_={"value": value.excluded.value}
            ),
            "name",
            "value",
        )
        self.usage = prepare(_add(insert, usage, _SUMS), *(c.name for c in usage.c))
        of_sets = _add(insert, set_usage, ("recipients",))
        self.set_usage = prepare(of_sets, *(c.name for c in set_usage.c))


def _add(insert: Any, table: Table, sums: Iterable[str]) -> Executable:  # noqa: ANN401 - a dialect's
    """The statement that adds to the sums of a table, or begins them."""
    row = insert(table).values({c.name: bindparam(c.name) for c in table.c})
    added = {name: table.c[name] + row.excluded[name] for name in sums}
    made: Executable = row.on_conflict_do_update(
        index_elements=list(table.primary_key), set_=added
    )
    return made


def _insert_in_sqlite(table: Table) -> sqlite.Insert:
    """An INSERT whose error ends the transaction, as it would in any case.

    Otherwise SQLite would copy each page that a statement of many rows changes, so that it can
    undo that statement alone.
    """
    return sqlite.insert(table).prefix_with("OR ROLLBACK")


class _AtOnce:
    """A statement of PostgreSQL that takes all rows in one execution, a list a column."""

    def __init__(self, sql: str) -> None:
        self._sql = sql

    def run(self, connection: Plain, rows: Sequence[tuple[Any, ...]]) -> int:
        """The number of changed rows."""
        if not rows:
            return 0
        assert isinstance(connection, Connection)  # noqa: S101 - for mypy; it is PostgreSQL's
        columns = tuple(map(list, zip(*rows, strict=True)))
        return connection.exec_driver_sql(self._sql, columns).rowcount


def _one_a_row(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The last entry of each row, but a final one before others.

    A verdict whose caller gave up may still wait to be written when it is written again.
    """
    latest = {entry.row.id: entry for entry in entries}
    if len(latest) == len(entries):
        return entries
    latest = {}
    for entry in entries:
        before = latest.get(entry.row.id)
        if before is not None:
            is_later = entry.is_final or not before.is_final
            latest[entry.row.id] = replace(entry if is_later else before, may_be_there=True)
        else:
            latest[entry.row.id] = entry
    return list(latest.values())


def _term_rows(entry: Entry, digests: bytes) -> list[tuple[int, bytes, str]]:
    hour, record_id = hour_of(entry.row.received_us), entry.row.id
    return [(hour, term, record_id) for term in term_sorting.terms_in(digests)]


def _count(increments: Increments, row: Row, sign: int) -> None:
    counted = usage_of(row)
    if counted is None:
        return
    key, counts = counted
    place = (row.received_us // _POINT_US, key)
    before = increments.get(place, _NONE)
    increments[place] = before + counts if sign > 0 else before - counts


def _set_usage_rows(entries: Iterable[Entry]) -> list[tuple[Any, ...]]:
    """In the same order in all gates, so that no two wait for each other's row."""
    sums: dict[tuple[int, str, str, int], int] = {}
    for entry in entries:
        row = entry.row
        for grain, points in _POINTS_A_GRAIN:
            unit = row.received_us // _POINT_US // points
            place = (grain, row.account_id, entry.configuration_set, unit)
            sums[place] = sums.get(place, 0) + row.sent_to
    return [(*place, recipients) for place, recipients in sorted(sums.items())]


def _usage_rows(increments: Increments) -> list[tuple[Any, ...]]:
    """In the same order in all gates, so that no two wait for each other's row."""
    sums: dict[tuple[int, int, UsageKey], Counts] = {}
    for (point, key), counts in increments.items():
        for grain, points in _POINTS_A_GRAIN:
            place = (grain, point // points, key)
            before = sums.get(place)
            sums[place] = counts if before is None else before + counts
    return [
        (
            grain,
            key.account_id,
            unit,
            key.user_arn,
            key.identity,
            key.reason,
            owner_of(key.identity),
            counts.attempts,
            counts.messages,
            counts.recipients,
            counts.octets,
        )
        for (grain, unit, key), counts in sorted(sums.items(), key=itemgetter(0))
        if counts != _NONE
    ]
