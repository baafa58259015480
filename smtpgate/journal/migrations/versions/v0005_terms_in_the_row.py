"""The terms of a new record are in its own row, until they are sorted in."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"

_SORT_ALL_IN: Final = """
INSERT INTO journal_terms (hour, term, id)
WITH RECURSIVE place(at) AS (
    SELECT 1 UNION ALL SELECT at + 12 FROM place
    WHERE at + 12 < (SELECT max(length(digests)) FROM journal_recent_terms)
)
SELECT hour, substr(digests, at, 12), id FROM journal_recent_terms, place
WHERE at < length(digests)
ON CONFLICT DO NOTHING
"""
_NOTE: Final = """
INSERT INTO journal_meta (name, value)
SELECT 'sorted', seq FROM journal_records ORDER BY seq DESC LIMIT 1
"""


def upgrade() -> None:
    """Sort in what waits in SQLite, where only this kind of database has such terms."""
    op.add_column("journal_records", sa.Column("digests", sa.LargeBinary))
    if op.get_bind().dialect.name == "sqlite":
        op.execute(_SORT_ALL_IN)
        op.execute(_NOTE)
    op.drop_table("journal_recent_terms")
