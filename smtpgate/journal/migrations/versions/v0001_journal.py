"""The journal: records, the terms they are found by, the statements they cite, usage."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None

ID: Final = sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql")
SERIAL: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _meta()
    _records()
    _terms()
    _statements()
    _usage()


def _meta() -> None:
    op.create_table(
        "journal_meta",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_journal_meta"),
    )


def _records() -> None:
    op.create_table(
        "journal_records",
        sa.Column("seq", SERIAL, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("done_us", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("user_arn", sa.Text(), nullable=False),
        sa.Column("from_identity", sa.Text(), nullable=False),
        sa.Column("octets", sa.BigInteger(), nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_journal_records"),
        sa.UniqueConstraint("id", name="uq_journal_records_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_journal_records_relaying",
        "journal_records",
        ["id"],
        sqlite_where=sa.text("outcome = 'relaying'"),
        postgresql_where=sa.text("outcome = 'relaying'"),
    )


def _terms() -> None:
    op.create_table(
        "journal_terms",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("term", sa.LargeBinary(length=12), nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.PrimaryKeyConstraint("hour", "term", "id", name="pk_journal_terms"),
        sqlite_with_rowid=False,
    )


def _statements() -> None:
    op.create_table(
        "journal_statements",
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("last_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_journal_statements"),
    )


def _usage() -> None:
    op.create_table(
        "journal_usage",
        sa.Column("grain", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("start", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("user_arn", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("owner_id", sa.String(length=12), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("attempts", "messages", "recipients", "octets")
        ),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            for name in ("bounces", "complaints")
        ),
        sa.PrimaryKeyConstraint(
            "grain",
            "account_id",
            "start",
            "user_arn",
            "identity",
            "reason",
            name="pk_journal_usage",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_journal_usage_grain_owner_id_start",
        "journal_usage",
        ["grain", "owner_id", "start"],
    )
    op.create_index("ix_journal_usage_grain_start", "journal_usage", ["grain", "start"])
