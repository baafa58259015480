"""Records whose gate will not complete them: nobody knows what the upstream did.

They say so, as in-doubt.
"""

import json
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, literal_column, select

from smtpgate.journal.pen import Entry, Pen
from smtpgate.journal.rows import COLUMNS, Row, microseconds
from smtpgate.journal.schema import records
from smtpgate.journal.terms import TermKey

_STEP: Final = 250
# Written out, so that a database sees that its small index of these has all of them.
_OPEN: Final[ColumnElement[str]] = literal_column("'relaying'")
_LEFT: Final = json.dumps(
    {"detail": "the gate ended, or the journal failed, before the verdict was written"}
)


class Doubt:
    """Gives records the verdict that they are in doubt."""

    def __init__(self, key: TermKey) -> None:
        self._pen = Pen()
        self._terms = frozenset((key.outcome("in-doubt"), key.reason("in-doubt")))

    def give_up(
        self, connection: Connection, of_these: ColumnElement[bool], now: datetime
    ) -> int:
        """Do it to some of these that have no verdict; to how many, 0 when none is left."""
        query = (
            select(*COLUMNS)
            .where(records.c.outcome == _OPEN, of_these)
            .limit(_STEP)
            .with_for_update(skip_locked=True)  # of several gates one does it
        )
        rows = [Row._make(found) for found in connection.execute(query)]
        self._pen.write(connection, [self._given_up(row, now) for row in rows])
        return len(rows)

    def _given_up(self, row: Row, now: datetime) -> Entry:
        return Entry(
            row=row._replace(
                done_us=microseconds(now), outcome="in-doubt", reason="in-doubt", verdict=_LEFT
            ),
            texts={},
            early_terms=frozenset(),
            late_terms=self._terms,
            is_begun=True,
        )
