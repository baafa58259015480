"""The tables of the directory, but for the fields of documents that were applied.

The first revision that a release has. Its tables are written out, because those of
:mod:`smtpgate.directory.schema` change with later revisions.
"""

from typing import Final

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from smtpgate.directory.schema import APPEND_ONLY
from smtpgate.sql.types import NAMES, Json, Moment, Serial

revision: Final = "0003"
down_revision: Final = None

_TABLES: Final = MetaData(naming_convention=NAMES)

Table(
    "master_keys",
    _TABLES,
    Column("id", String(32), primary_key=True),
    Column("check", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
)

Table(
    "accounts",
    _TABLES,
    Column("id", String(12), primary_key=True),
    Column("name", Text, nullable=False),
    Column("organization_id", String(34)),
    Column("paused_reason", Text),
    Column("max_24h_send", BigInteger),
    Column("max_send_rate_per_s", Float),
    Column("created_at", Moment, nullable=False),
)

Table(
    "users",
    _TABLES,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("path", String(512), nullable=False),
    Column("tags", Json, nullable=False),
    Column("unique_id", String(21), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
)

Table(
    "access_keys",
    _TABLES,
    Column("id", String(128), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("user_key", String(64)),
    Column("secret", LargeBinary, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("networks", Json, nullable=False),
    Column("last_used_at", Moment),
    Column("last_used_from", String(45)),
    ForeignKeyConstraint(["account_id"], ["accounts.id"]),
    ForeignKeyConstraint(["account_id", "user_key"], ["users.account_id", "users.key"]),
    Index(None, "account_id", "user_key"),
)

Table(
    "identities",
    _TABLES,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("name", String(320), primary_key=True),
    Column("domain", String(255), nullable=False),
    Column("token", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    Column("method", String(8)),
    Column("started_at", Moment),
    Column("verified_at", Moment),
    Column("checked_at", Moment),
    Column("missing_since", Moment),
    Column("next_check_at", Moment),
    Column("problem", Text, nullable=False, server_default=""),
    Column("code_digest", LargeBinary),
    Column("code_sent_at", Moment),
    Column("code_failures", Integer, nullable=False, server_default="0"),
    Column("paused_reason", Text),
    Column("created_at", Moment, nullable=False),
    Index(None, "region", "name"),
    Index(None, "region", "domain", "name"),
    Index(None, "next_check_at"),
)

Table(
    "policies",
    _TABLES,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("subject", String(320), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("changed_by", Text, nullable=False),
)

Table(
    "policy_versions",
    _TABLES,
    Column("account_id", String(12), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("subject", String(320), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text),
    Column("changed_at", Moment, nullable=False),
    Column("changed_by", Text, nullable=False),
)

Table(
    "dkim_keys",
    _TABLES,
    Column("account_id", String(12), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("domain", String(255), primary_key=True),
    Column("selector", String(255), primary_key=True),
    Column("algorithm", String(16), nullable=False),
    Column("private_key", LargeBinary, nullable=False),
    Column("record", Text, nullable=False),
    Column("stage", String(8), nullable=False),
    Column("since", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("problem", Text, nullable=False, server_default=""),
    Column("alarm_since", Moment),
    Column("checked_at", Moment),
    Column("next_check_at", Moment),
    ForeignKeyConstraint(
        ["account_id", "region", "domain"],
        ["identities.account_id", "identities.region", "identities.name"],
    ),
    Index(None, "next_check_at"),
)

Table(
    "quotas",
    _TABLES,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("subject", String(320), primary_key=True),
    Column("delegate_id", String(12), primary_key=True),
    Column("max_24h_send", BigInteger),
    Column("max_send_rate_per_s", Float),
    Column("raised_24h_send", BigInteger),
    Column("raised_send_rate_per_s", Float),
    Column("raised_until", Moment),
    Index(None, "delegate_id"),
)

Table(
    "audit_log",
    _TABLES,
    Column("seq", Serial, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("actor", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("account_id", String(12), nullable=False),
    Column("name", Text, nullable=False),
    Column("before", Json),
    Column("after", Json),
    Index(None, "account_id", "seq"),
    sqlite_autoincrement=True,
)


def upgrade() -> None:
    """Make the tables, and the triggers that keep the audit log append-only."""
    connection = op.get_bind()
    _TABLES.create_all(connection)
    for statement in APPEND_ONLY[connection.dialect.name]:
        op.execute(statement)
