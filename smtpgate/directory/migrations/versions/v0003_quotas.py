"""Limits of users, access keys and grants, and raises for a time."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from smtpgate.sql.types import Moment

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "quotas",
        sa.Column(
            "account_id",
            sa.String(12),
            sa.ForeignKey("accounts.id", name="fk_quotas_account_id"),
        ),
        sa.Column("kind", sa.String(8)),
        sa.Column("region", sa.String(32)),
        sa.Column("subject", sa.String(320)),
        sa.Column("delegate_id", sa.String(12)),
        sa.Column("max_24h_send", sa.BigInteger),
        sa.Column("max_send_rate_per_s", sa.Float),
        sa.Column("raised_24h_send", sa.BigInteger),
        sa.Column("raised_send_rate_per_s", sa.Float),
        sa.Column("raised_until", Moment),
        sa.PrimaryKeyConstraint(
            "account_id", "kind", "region", "subject", "delegate_id", name="pk_quotas"
        ),
    )
    op.create_index("ix_quotas_delegate_id", "quotas", ["delegate_id"])
