"""The last applied content of each object of documents, so that only changes are applied."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from smtpgate.sql.types import Json, Moment

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Make the table; in a directory that is in use, note that it was not always there."""
    table = op.create_table(
        "applied_objects",
        sa.Column("kind", sa.String(16)),
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("subject", sa.String(320)),
        sa.Column("name", sa.String(255)),
        sa.Column("said", Json, nullable=False),
        sa.Column("applied_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint(
            "kind", "account_id", "region", "subject", "name", name="pk_applied_objects"
        ),
    )
    entries = sa.table("audit_log", sa.column("seq"), sa.column("at", Moment))
    newest = sa.select(entries.c.at).order_by(entries.c.seq.desc()).limit(1)
    at = op.get_bind().execute(newest).scalar()
    if at is not None:
        places = dict.fromkeys(("account_id", "region", "subject", "name"), "")
        mark = {"kind": "upgrade", **places, "said": {}, "applied_at": at}
        op.bulk_insert(table, [mark])
