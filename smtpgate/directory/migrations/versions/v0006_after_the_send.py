"""Suppression lists with their settings."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from smtpgate.sql.types import Json, Moment

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    """Make the tables."""
    _make_suppression()


def _make_suppression() -> None:
    """Lists that are empty; no identity imposes its owner's, no configuration set differs."""
    imposes = sa.Column(
        "suppresses_delegates", sa.Boolean, nullable=False, server_default=sa.false()
    )
    op.add_column("identities", imposes)
    op.add_column("configuration_sets", sa.Column("suppressed_reasons", Json))
    op.create_table(
        "suppression_settings",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("reasons", Json),
        sa.Column("has_addresses", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_suppression_settings_account_id"
        ),
        sa.PrimaryKeyConstraint("account_id", "region", name="pk_suppression_settings"),
    )
    op.create_table(
        "suppressed_addresses",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("address", sa.String(320)),
        sa.Column("reason", sa.String(9), nullable=False),
        sa.Column("added_at", Moment, nullable=False),
        sa.Column("message_id", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_suppressed_addresses_account_id"
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "region", "address", name="pk_suppressed_addresses"
        ),
    )
