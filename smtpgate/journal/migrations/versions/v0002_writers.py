"""The gate of each record without a verdict, so that records of dead gates are completed."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Make the table and the column; neither touches a record that is there."""
    op.create_table(
        "journal_writers",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_writers"),
    )
    op.add_column("journal_records", sa.Column("writer", sa.BigInteger(), nullable=True))
