"""The terms of the last records of a SQLite file, before they are sorted in among the others.

Sorted, each term of a message is on another page, and a transaction of a few messages would
write a page for nearly each of their terms. So a record is written with all of its terms in its
own row. When a thousand terms are there, they are sorted in together, and each page that is
written takes many. The journal has the number of the last record that is sorted in; searches
look through the rows behind it.

A row behind that number has all terms of its record. So a record has all of some terms if its
row has them, or if all of them are sorted in. The terms stay in the rows that are sorted in,
some hundred octets each: to remove them, the pages of these rows would be written once more.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Select, func, literal_column, select

from smtpgate.journal.rows import COLUMNS, HOUR_US
from smtpgate.journal.schema import records
from smtpgate.journal.terms import TERM_OCTETS
from smtpgate.sql.batches import Plain, SqlStatement

# Terms, in one step: a thousand take some 3 ms. The fewer steps, the fewer pages are written.
SORTED_AFTER: Final = 1024
_SORTED_AT_ONCE: Final = SORTED_AFTER  # records, of which each has a term or more

_SORTED: Final = "sorted"
_LAST_SORTED: Final = f"""coalesce(
    (SELECT CAST(value AS INTEGER) FROM journal_meta WHERE name = '{_SORTED}'), 0
)"""  # noqa: S608 - a name of ours
_LAST_OF_NEXT: Final = f"""
SELECT max(seq) FROM (
    SELECT seq FROM journal_records WHERE seq > {_LAST_SORTED} ORDER BY seq LIMIT ?1
)
"""  # noqa: S608 - names of ours
# In any order: the same pages are written, and an order would take a third of the time.
_SORT_IN: Final = f"""
INSERT OR ROLLBACK INTO journal_terms (hour, term, id)
WITH RECURSIVE place(at) AS (
    SELECT 1 UNION ALL SELECT at + {TERM_OCTETS} FROM place WHERE at + {TERM_OCTETS} <
    (SELECT max(length(digests)) FROM journal_records WHERE seq > {_LAST_SORTED} AND seq <= ?1)
)
SELECT received_us / {HOUR_US}, substr(digests, at, {TERM_OCTETS}), id
FROM journal_records, place
WHERE seq > {_LAST_SORTED} AND seq <= ?1 AND at < length(digests)
ON CONFLICT DO NOTHING
"""  # noqa: S608 - numbers and names of ours
_NOTE: Final = f"""
INSERT INTO journal_meta (name, value) VALUES ('{_SORTED}', ?1)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""  # noqa: S608 - a name of ours
_ADD: Final = SqlStatement(
    f"""
UPDATE OR ROLLBACK journal_records SET digests = CAST(digests || ? AS BLOB)
WHERE id = ? AND seq > {_LAST_SORTED}
""",  # noqa: S608 - names of ours
    ("digests", "id"),
)


def add(connection: Plain, rows: Sequence[tuple[bytes, str]]) -> bool:
    """Add terms to the rows of records; false unless all of them wait to be sorted in."""
    return _ADD.run(connection, rows) == len(rows)


def sort_some_in(connection: sqlite3.Connection) -> bool:
    """Sort the terms of the next records in; false if there are none."""
    (last,) = connection.execute(_LAST_OF_NEXT, (_SORTED_AT_ONCE,)).fetchone()
    if last is None:
        return False
    for statement in (_SORT_IN, _NOTE):
        connection.execute(statement, (last,))
    return True


def having_recently(wanted: Sequence[bytes], hours: Sequence[int]) -> Select[Any]:
    """Records of some hours, one after the other, whose rows have all of the terms."""
    row = records.alias()
    # A digest that begins within another one is as unlikely as any forged one.
    has_all = (func.instr(row.c.digests, term) > 0 for term in wanted)
    found = select(row.c.seq).where(
        row.c.seq > literal_column(_LAST_SORTED),
        row.c.received_us >= hours[0] * HOUR_US,
        row.c.received_us < (hours[-1] + 1) * HOUR_US,
        *has_all,
    )
    return select(*COLUMNS).where(records.c.seq.in_(found))


def terms_in(digests: bytes) -> Iterator[bytes]:
    """The terms of a row."""
    for at in range(0, len(digests), TERM_OCTETS):
        yield digests[at : at + TERM_OCTETS]
