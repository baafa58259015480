"""The terms of the last records of a SQLite file, before they are sorted in among the others.

Sorted, each term of a message is on another page, and a transaction of a few messages would
write a page for nearly each of their terms. Here all terms of a record are one row. When a
thousand terms are here, they are sorted in together, and each page that is written takes many.

A row has all terms that its record has by then, those before the relay too. So a record has all
of some terms if one row here has them, or if all of them are sorted in.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Select, func, select

from smtpgate.journal.rows import COLUMNS
from smtpgate.journal.schema import recent_terms, records
from smtpgate.journal.terms import TERM_OCTETS
from smtpgate.sql import many
from smtpgate.sql.batches import Plain

# Terms, in one step: a thousand take some 3 ms. The fewer steps, the fewer pages are written.
SORTED_AFTER: Final = 1024
_SORTED_AT_ONCE: Final = SORTED_AFTER  # records, of which each has a term or more

_ADD: Final = """
INSERT OR ROLLBACK INTO journal_recent_terms (hour, id, digests) VALUES (?, ?, ?)
"""
_FIRST: Final = "SELECT min(seq) FROM journal_recent_terms"
# In any order: the same pages are written, and an order would take a third of the time.
_SORT_IN: Final = f"""
INSERT OR ROLLBACK INTO journal_terms (hour, term, id)
WITH RECURSIVE place(at) AS (
    SELECT 1 UNION ALL SELECT at + {TERM_OCTETS} FROM place WHERE at + {TERM_OCTETS} <
    (SELECT max(length(digests)) FROM journal_recent_terms WHERE seq < ?1)
)
SELECT hour, substr(digests, at, {TERM_OCTETS}), id FROM journal_recent_terms, place
WHERE seq < ?1 AND at < length(digests)
ON CONFLICT DO NOTHING
"""  # noqa: S608 - a number of ours
_FORGET: Final = "DELETE FROM journal_recent_terms WHERE seq < ?1"


def add(connection: sqlite3.Connection, rows: Sequence[tuple[int, str, bytes]]) -> int:
    """Add the terms of records, each with its hour and its id; returns their number."""
    _ = many.execute(connection, _ADD, rows)
    return sum([len(digests) for _, _, digests in rows]) // TERM_OCTETS


def sort_some_in(connection: Plain) -> bool:
    """Sort the terms of the first records in; false if there are none."""
    first = _run(connection, _FIRST)
    if first is None:
        return False
    for statement in (_SORT_IN, _FORGET):
        _run(connection, statement, first + _SORTED_AT_ONCE)
    return True


def _run(connection: Plain, statement: str, *values: int) -> Any:  # noqa: ANN401 - a column's
    """The first column of the first row, or ``None``."""
    if isinstance(connection, sqlite3.Connection):
        row = connection.execute(statement, values).fetchone()
        return None if row is None else row[0]
    found = connection.exec_driver_sql(statement, values)
    return found.scalar() if found.returns_rows else None


def having_recently(wanted: Sequence[bytes], hours: Sequence[int]) -> Select[Any]:
    """Records of some hours that have all of the terms here."""
    # A digest that begins within another one is as unlikely as any forged one.
    has_all = (func.instr(recent_terms.c.digests, term) > 0 for term in wanted)
    found = select(recent_terms.c.id).where(recent_terms.c.hour.in_(hours), *has_all)
    return select(*COLUMNS).where(records.c.id.in_(found))


def terms_in(digests: bytes) -> Iterator[bytes]:
    """The terms of a row."""
    for at in range(0, len(digests), TERM_OCTETS):
        yield digests[at : at + TERM_OCTETS]
