"""Events as rows, and the statements that write them and add them up.

Before the final dot an event is provisional, as its tasks are. The sums have the events in
force: they are added in the transaction in which an event comes into force, which happens once.
So the sums are exact, also where an event is found twice or by two gates.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, structs
from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    bindparam,
    delete,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.engine import Dialect

from smtpgate.core.history.event_counts import EventCounts, EventFacts, counts_of
from smtpgate.core.history.kept_event import KeptEvent, kept_recipients, type_of
from smtpgate.core.history.usage import Grain
from smtpgate.core.moments import microseconds, moment
from smtpgate.core.outbox.event import Detail, EventRecipient, SendingEvent
from smtpgate.journal.schema import event_sums, events
from smtpgate.json_text import json_text
from smtpgate.sql.batches import Plain, SqlStatement
from smtpgate.sql.insert import insert_into

_SQLITE: Final = pysqlite.dialect()
_IS_PROVISIONAL: Final = events.c.is_provisional == literal_column("1")
_MINUTE_US: Final = 60_000_000
_MAX_TEXT: Final = 2048
_IDS_AT_ONCE: Final = 500
_IS_THERE: Final = "SELECT id, is_provisional FROM journal_events WHERE id IN"


class _Facts(Struct, frozen=True, gc=False, omit_defaults=True):
    """The part of an event that is only read with it."""

    detail: Detail
    to: tuple[EventRecipient, ...] = ()


_facts_of: Final = msgspec.json.Decoder(_Facts).decode


class EventRow(NamedTuple):
    """A row of ``journal_events`` as either driver takes it."""

    id: str
    message_id: str
    kind: str
    type: str
    subtype: str
    at_us: int
    account_id: str
    user_arn: str
    access_key: str
    identity: str
    owner_id: str
    configuration_set: str
    recipients: int
    is_simulated: int
    is_refusal: int
    is_provisional: int
    facts: str


COLUMNS: Final = tuple(events.c[name] for name in EventRow._fields)
"""The columns that ``EventRow._make`` needs."""
_NAMES: Final = ", ".join(EventRow._fields)
_TYPES: Final = ", ".join(
    f"${at}::{'text' if isinstance(column.type, String) else 'bigint'}[]"
    for at, column in enumerate(COLUMNS, 1)
)
_KEEP_IN_SQLITE: Final = SqlStatement(
    f"INSERT OR REPLACE INTO journal_events ({_NAMES}) "  # noqa: S608 - names of ours
    f"VALUES ({', '.join('?' * len(COLUMNS))})",
    EventRow._fields,
)
# A row that is returned was written by this statement, so of several gates one counts it.
_KEEP: Final = f"""
INSERT INTO journal_events ({_NAMES}) SELECT * FROM unnest({_TYPES})
ON CONFLICT (id) DO UPDATE SET is_provisional = excluded.is_provisional,
    is_refusal = excluded.is_refusal, facts = excluded.facts
WHERE journal_events.is_provisional = 1 AND excluded.is_provisional = 0 RETURNING id
"""  # noqa: S608 - names and types of ours


def event_rows(
    of_these: Iterable[SendingEvent], *, with_addresses: bool, is_provisional: bool = False
) -> tuple[EventRow, ...]:
    """The rows of events; a Send has none, since the record of its message says it.

    ``with_addresses``: the journal keeps recipients.
    """
    return tuple(
        _row(event, with_addresses=with_addresses, is_provisional=is_provisional)
        for event in of_these
        if event.kind != "Send"
    )


def _row(event: SendingEvent, *, with_addresses: bool, is_provisional: bool) -> EventRow:
    mail = event.mail
    kind, subtype = type_of(event.detail)
    recipients = kept_recipients(event, with_addresses=with_addresses)
    return EventRow(
        event.id,
        mail.message_id,
        event.kind,
        kind,
        subtype[:40],
        microseconds(event.at),
        mail.account_id,
        mail.user_arn[:_MAX_TEXT],
        mail.access_key[:128],
        mail.identity[:_MAX_TEXT],
        mail.owner_id[:12],
        mail.configuration_set[:64],
        len(event.recipients),
        int(event.is_simulated),
        int(event.is_refusal),
        int(is_provisional),
        json_text(_Facts(event.detail, recipients)),
    )


def event_of(row: EventRow) -> KeptEvent:
    """The event of a row."""
    facts = _facts_of(row.facts)
    kind: Any = row.kind
    return KeptEvent(
        id=row.id,
        message_id=row.message_id,
        kind=kind,
        at=moment(row.at_us),
        account_id=row.account_id,
        user_arn=row.user_arn,
        access_key=row.access_key,
        identity=row.identity,
        owner_id=row.owner_id,
        configuration_set=row.configuration_set,
        number=row.recipients,
        recipients=facts.to,
        detail=facts.detail,
        is_simulated=bool(row.is_simulated),
    )


# -- in the transaction of a verdict or of a report --------------------------------------------


class EventStatements:
    """The statements, compiled for one kind of database when they are first used."""

    _compiled: Final[dict[tuple[str, str], "_Compiled"]] = {}

    def keep(self, connection: Plain, rows: Sequence[EventRow]) -> frozenset[str]:
        """Write rows, and add those to the sums that come into force by it.

        The ids of rows that were not there. One that was there, and provisional, comes into
        force if the new one is in force.
        """
        if not rows:
            return frozenset()
        # In the same order in all gates, so that no two wait for each other's row.
        in_order = sorted({row.id: row for row in rows}.values())
        written = self._write(connection, in_order)
        self._add(
            connection,
            [row for row in in_order if row.id in written and not row.is_provisional],
        )
        return written

    def _write(self, connection: Plain, rows: Sequence[EventRow]) -> frozenset[str]:
        """Write rows in few statements; the ids of those that are new or changed."""
        if isinstance(connection, Connection) and connection.dialect.name == "postgresql":
            columns = tuple(map(list, zip(*rows, strict=True)))
            found = connection.exec_driver_sql(_KEEP, columns)
            return frozenset(row[0] for row in found)
        # The transaction has the file's lock already, so nobody else writes meanwhile; and
        # RETURNING needs a later SQLite than some systems have.
        there = _provisional_ones(connection, [row.id for row in rows])
        new = [row for row in rows if _is_news(row, there.get(row.id))]
        _KEEP_IN_SQLITE.run(connection, new)
        return frozenset(row.id for row in new)

    def drop(self, connection: Plain, message_ids: Sequence[str]) -> None:
        """Delete the provisional ones of messages."""
        self._for(connection).drop.run(connection, [(one,) for one in message_ids])

    def _add(self, connection: Plain, rows: Sequence[EventRow]) -> None:
        add = self._for(connection).add
        names = [column.name for column in event_sums.c]
        order = [names.index(name) for name in add.names]
        add.run(connection, [tuple(sum_[at] for at in order) for sum_ in _sums(rows)])

    def put_in_force(self, connection: Connection, which: ColumnElement[bool]) -> None:
        """Put the provisional ones of these in force, and add them to the sums."""
        query = select(*COLUMNS).where(_IS_PROVISIONAL, which).with_for_update()
        found = [EventRow._make(row) for row in connection.execute(query)]
        if found:
            ids = events.c.id.in_([row.id for row in found])
            connection.execute(update(events).where(ids).values(is_provisional=0))
            self._add(connection, found)

    def put_messages_in_force(
        self, connection: Connection, message_ids: Collection[str]
    ) -> None:
        """Put the provisional ones of messages in force: their clients may have got a 250."""
        if message_ids:
            self.put_in_force(connection, events.c.message_id.in_(message_ids))

    def _for(self, connection: Plain) -> "_Compiled":
        dialect: Dialect = _SQLITE
        if isinstance(connection, Connection):
            dialect = connection.dialect
        key = dialect.name, dialect.driver
        if key not in self._compiled:
            self._compiled[key] = _compiled(dialect)
        return self._compiled[key]


class _Compiled(NamedTuple):
    drop: SqlStatement
    add: SqlStatement


def _compiled(dialect: Dialect) -> _Compiled:
    drop = delete(events).where(events.c.message_id == bindparam("of_message"), _IS_PROVISIONAL)
    sums = insert_into(event_sums, dialect)
    sums = sums.values({c.name: bindparam(c.name) for c in event_sums.c})
    added = {
        name: event_sums.c[name] + sums.excluded[name] for name in EventCounts.__struct_fields__
    }
    add = sums.on_conflict_do_update(index_elements=list(event_sums.primary_key), set_=added)
    return _Compiled(*(SqlStatement.of(one, dialect) for one in (drop, add)))


def _provisional_ones(connection: Plain, ids: Sequence[str]) -> Mapping[str, bool]:
    """The rows of these that are there in SQLite, each with whether it is provisional."""
    execute = (
        connection.exec_driver_sql if isinstance(connection, Connection) else connection.execute
    )
    found: dict[str, bool] = {}
    for at in range(0, len(ids), _IDS_AT_ONCE):
        some = tuple(ids[at : at + _IDS_AT_ONCE])
        query = f"{_IS_THERE} ({', '.join('?' * len(some))})"
        found.update((row[0], bool(row[1])) for row in execute(query, some))
    return found


def _is_news(row: EventRow, is_provisional: bool | None) -> bool:
    """True unless the row is there already, in force or no later than this one."""
    return is_provisional is None or (is_provisional and not row.is_provisional)


def _sums(rows: Iterable[EventRow]) -> list[tuple[Any, ...]]:
    """The rows of the sums, in the order of the columns, and in the same order in all gates."""
    sums: dict[tuple[Any, ...], EventCounts] = {}
    owners: dict[str, str] = {}
    for row in rows:
        counts = counts_of(
            EventFacts(
                row.kind,
                row.type,
                row.subtype,
                row.recipients,
                bool(row.is_simulated),
                bool(row.is_refusal),
            )
        )
        owners[row.identity] = row.owner_id
        for grain in Grain:
            start = row.at_us // (grain * _MINUTE_US)
            key = (
                int(grain),
                row.account_id,
                start,
                row.user_arn,
                row.access_key,
                row.identity,
                row.configuration_set,
            )
            sums[key] = sums.get(key, EventCounts()) + counts
    return [
        (*key, owners[key[5]], *structs.astuple(counts))
        for key, counts in sorted(sums.items(), key=itemgetter(0))
    ]
