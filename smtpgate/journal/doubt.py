"""Records that their gate will not complete get the outcome ``in-doubt``.

It is not known whether the upstream accepted these messages, nor what reply their clients got.
"""

import json
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, literal_column, select

from smtpgate.core.moments import microseconds
from smtpgate.journal.events import EventStatements
from smtpgate.journal.rows import COLUMNS, Row, record_of
from smtpgate.journal.schema import records
from smtpgate.journal.statements import Entry, RecordStatements
from smtpgate.journal.tasks import put_in_force
from smtpgate.journal.terms import TermKey

_STEP: Final = 250
# Written out, so that the database can use its small partial index of these rows.
_OPEN: Final[ColumnElement[str]] = literal_column("'relaying'")
_LEFT: Final = json.dumps(
    {"detail": "the gate ended, or the journal failed, before the verdict was written"}
)


class Doubt:
    """Gives records the outcome ``in-doubt``."""

    def __init__(self, key: TermKey) -> None:
        self._statements = RecordStatements()
        self._events = EventStatements()
        self._key = key

    def give_up(
        self, connection: Connection, of_these: ColumnElement[bool], now: datetime
    ) -> int:
        """Give it to some of these without a verdict; their number, 0 when none is left."""
        query = (
            select(*COLUMNS)
            .where(records.c.outcome == _OPEN, of_these)
            .limit(_STEP)
            .with_for_update(skip_locked=True)  # of several gates one does it
        )
        rows = [Row(*found) for found in connection.execute(query)]
        self._statements.write(connection, [self._given_up(row, now) for row in rows])
        ids = [row.id for row in rows]
        self._events.put_messages_in_force(connection, ids)
        put_in_force(connection, ids)
        return len(rows)

    def _given_up(self, row: Row, now: datetime) -> Entry:
        row = row.completed(microseconds(now), "in-doubt", "in-doubt", _LEFT)
        record = record_of(row, {})
        return Entry(
            row=row,
            texts={},
            early_terms=b"",
            late_terms=b"".join(self._key.of_verdict(record.verdict, record.parties)),
            is_begun=True,
        )
