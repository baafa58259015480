"""Accounts have a language."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    """Add the column; accounts that are there have English."""
    language = sa.Column("language", sa.String(8), nullable=False, server_default="en")
    op.add_column("accounts", language)
