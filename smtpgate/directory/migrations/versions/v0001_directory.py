"""The directory: accounts, users, access keys, identities, policies, DKIM keys, audit log."""

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from smtpgate.directory.schema import APPEND_ONLY
from smtpgate.sql.types import Moment

revision: Final = "0001"
down_revision: Final = None

JSON: Final = sa.JSON().with_variant(JSONB(), "postgresql")
SERIAL: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _accounts()
    _access_keys()
    _identities()
    _policies()
    _dkim_keys()
    _audit_log()


def _accounts() -> None:
    op.create_table(
        "master_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("check", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_master_keys")),
    )

    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.String(length=34), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("max_24h_send", sa.BigInteger(), nullable=True),
        sa.Column("max_send_rate_per_s", sa.Float(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )

    op.create_table(
        "users",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("unique_id", sa.String(length=21), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_users_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_users")),
        sa.UniqueConstraint("unique_id", name=op.f("uq_users_unique_id")),
    )


def _access_keys() -> None:
    op.create_table(
        "access_keys",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("user_key", sa.String(length=64), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("networks", JSON, nullable=False),
        sa.Column("last_used_at", Moment(), nullable=True),
        sa.Column("last_used_from", sa.String(length=45), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id", "user_key"],
            ["users.account_id", "users.key"],
            name=op.f("fk_access_keys_account_id_user_key"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_access_keys_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_keys")),
    )
    op.create_index(
        op.f("ix_access_keys_account_id_user_key"),
        "access_keys",
        ["account_id", "user_key"],
        unique=False,
    )


def _identities() -> None:
    op.create_table(
        "identities",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=320), nullable=False),
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=True),
        sa.Column("started_at", Moment(), nullable=True),
        sa.Column("verified_at", Moment(), nullable=True),
        sa.Column("checked_at", Moment(), nullable=True),
        sa.Column("missing_since", Moment(), nullable=True),
        sa.Column("next_check_at", Moment(), nullable=True),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_identities_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "region", "name", name=op.f("pk_identities")),
    )
    op.create_index(
        op.f("ix_identities_next_check_at"), "identities", ["next_check_at"], unique=False
    )
    op.create_index(
        op.f("ix_identities_region_domain_name"),
        "identities",
        ["region", "domain", "name"],
        unique=False,
    )
    op.create_index(
        op.f("ix_identities_region_name"), "identities", ["region", "name"], unique=False
    )


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=320), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_policies_account_id")
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "kind", "region", "subject", "name", name=op.f("pk_policies")
        ),
    )

    op.create_table(
        "policy_versions",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=320), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=True),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id",
            "kind",
            "region",
            "subject",
            "name",
            "version",
            name=op.f("pk_policy_versions"),
        ),
    )


def _dkim_keys() -> None:
    op.create_table(
        "dkim_keys",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("selector", sa.String(length=255), nullable=False),
        sa.Column("algorithm", sa.String(length=16), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(length=8), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "region", "domain"],
            ["identities.account_id", "identities.region", "identities.name"],
            name=op.f("fk_dkim_keys_account_id_region_domain"),
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "region", "domain", "selector", name=op.f("pk_dkim_keys")
        ),
    )


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("seq", SERIAL, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("before", JSON, nullable=True),
        sa.Column("after", JSON, nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_log")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_audit_log_account_id_seq"), "audit_log", ["account_id", "seq"], unique=False
    )
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
