"""The events of messages, kept for each and added up; terms that are not sorted in yet."""

import sqlite3
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"

ID: Final = sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql")
SERIAL: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables; columns of the usage that were never written go."""
    _events()
    _sums()
    _recent_terms()
    _set_usage()
    # Where SQLite cannot drop columns, these two stay, and have their default in each row.
    if op.get_bind().dialect.name != "sqlite" or sqlite3.sqlite_version_info >= (3, 35):
        for name in ("bounces", "complaints"):
            op.drop_column("journal_usage", name)


def _events() -> None:
    op.create_table(
        "journal_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("subtype", sa.String(length=40), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("user_arn", sa.Text(), nullable=False),
        sa.Column("access_key", sa.String(length=128), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.String(length=12), nullable=False),
        sa.Column("configuration_set", sa.String(length=64), nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("is_simulated", sa.SmallInteger(), nullable=False),
        sa.Column("is_refusal", sa.SmallInteger(), nullable=False),
        sa.Column("is_provisional", sa.SmallInteger(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_events"),
    )
    for columns in (("message_id",), ("account_id", "at_us")):
        name = f"ix_journal_events_{'_'.join(columns)}"
        op.create_index(name, "journal_events", list(columns))
    op.create_index(
        "ix_journal_events_provisional",
        "journal_events",
        ["message_id"],
        sqlite_where=sa.text("is_provisional = 1"),
        postgresql_where=sa.text("is_provisional = 1"),
    )


def _sums() -> None:
    keys = (
        sa.Column("grain", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("start", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("user_arn", sa.Text(), nullable=False),
        sa.Column("access_key", sa.String(length=128), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("configuration_set", sa.String(length=64), nullable=False),
    )
    sums = ("hard_bounces", "soft_bounces", "complaints", "deliveries", "delays", "rejects")
    op.create_table(
        "journal_event_sums",
        *keys,
        sa.Column("owner_id", sa.String(length=12), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in (*sums, "uncounted", "refused")
        ),
        sa.PrimaryKeyConstraint(*(one.name for one in keys), name="pk_journal_event_sums"),
        sqlite_with_rowid=False,
    )
    for columns in (("grain", "owner_id", "start"), ("grain", "start")):
        name = f"ix_journal_event_sums_{'_'.join(columns)}"
        op.create_index(name, "journal_event_sums", list(columns))


def _recent_terms() -> None:
    op.create_table(
        "journal_recent_terms",
        sa.Column("seq", SERIAL, nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("digests", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_journal_recent_terms"),
    )


def _set_usage() -> None:
    op.create_table(
        "journal_set_usage",
        sa.Column("grain", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("configuration_set", sa.String(length=64), nullable=False),
        sa.Column("start", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("recipients", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "grain", "account_id", "configuration_set", "start", name="pk_journal_set_usage"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_journal_set_usage_grain_start", "journal_set_usage", ["grain", "start"])
