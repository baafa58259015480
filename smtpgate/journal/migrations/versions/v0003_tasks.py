"""The tasks that a gate has still to carry out: events, each to one destination."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"

ID: Final = sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql")
TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "journal_tasks",
        sa.Column("id", ID, nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("destination_kind", sa.String(length=10), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("lane", TEXT, nullable=False),
        sa.Column("state", sa.String(length=11), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("done_us", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("leased_by", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_tasks"),
    )
    for columns in (("state", "lane", "due_us"), ("message_id",), ("done_us",)):
        name = f"ix_journal_tasks_{'_'.join(columns)}"
        op.create_index(name, "journal_tasks", list(columns))
