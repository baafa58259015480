"""Codes that are mailed to addresses, and what DNS has of DKIM keys."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from smtpgate.sql.types import Moment

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("identities") as table:
        table.add_column(sa.Column("code_digest", sa.LargeBinary))
        table.add_column(sa.Column("code_sent_at", Moment))
        table.add_column(
            sa.Column("code_failures", sa.Integer, nullable=False, server_default="0")
        )
    with op.batch_alter_table("dkim_keys") as table:
        table.add_column(sa.Column("problem", sa.Text, nullable=False, server_default=""))
        table.add_column(sa.Column("alarm_since", Moment))
        table.add_column(sa.Column("checked_at", Moment))
        table.add_column(sa.Column("next_check_at", Moment))
    op.create_index("ix_dkim_keys_next_check_at", "dkim_keys", ["next_check_at"])
