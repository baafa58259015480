"""After a message was sent: suppression, reputations, uses of keys; DKIM, tags, topics."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from smtpgate.sql.types import Json, Moment

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    """Make the tables."""
    _make_suppression()
    _make_reputations()
    _make_key_watch()
    _make_topic_grants()
    _make_easy_dkim()
    _make_tags()
    _make_account_settings()
    _make_templates()
    _make_display_names()
    _make_certificates()


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


def _make_reputations() -> None:
    """Every sender is healthy, and no configuration set or delegate is judged."""
    op.create_table(
        "reputations",
        sa.Column("account_id", sa.String(12)),
        sa.Column("kind", sa.String(8)),
        sa.Column("region", sa.String(32)),
        sa.Column("owner_id", sa.String(12)),
        sa.Column("name", sa.String(320)),
        sa.Column("bounce", sa.String(16), nullable=False),
        sa.Column("complaint", sa.String(16), nullable=False),
        sa.Column("since", Moment),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("bounces", sa.BigInteger, nullable=False),
        sa.Column("complaints", sa.BigInteger, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
        sa.Column("fresh_start_at", Moment),
        sa.Column("paused_by", sa.String(8)),
        sa.Column("paused_reason", sa.Text),
        sa.Column("paused_at", Moment),
        sa.PrimaryKeyConstraint(
            "account_id", "kind", "region", "owner_id", "name", name="pk_reputations"
        ),
    )
    op.create_index(
        "ix_reputations_region_kind_name_owner_id",
        "reputations",
        ["region", "kind", "name", "owner_id"],
    )
    op.create_table(
        "reputation_settings",
        sa.Column("account_id", sa.String(12)),
        sa.Column("kind", sa.String(8)),
        sa.Column("region", sa.String(32)),
        sa.Column("name", sa.String(320)),
        sa.Column("auto_pause", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_reputation_settings_account_id"
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "kind", "region", "name", name="pk_reputation_settings"
        ),
    )


def _make_key_watch() -> None:
    """No key is slowed or suspended, and none has a profile; accounts have no contact."""
    op.add_column("accounts", sa.Column("contact", sa.String(320)))
    for column in (
        sa.Column("watch_state", sa.String(9)),
        sa.Column("watch_reason", sa.Text),
        sa.Column("watch_since", Moment),
        sa.Column("slowed_to_per_s", sa.Float),
        sa.Column("cleared_at", Moment),
        sa.Column("clearing", sa.String(9)),
    ):
        op.add_column("access_keys", column)
    op.create_table(
        "key_profiles",
        sa.Column("key_id", sa.String(128)),
        sa.Column("profile", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["access_keys.id"], name="fk_key_profiles_key_id"),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_profiles"),
    )


def _make_topic_grants() -> None:
    """No topic is open to another account."""
    op.create_table(
        "topic_grants",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("topic", sa.String(256)),
        sa.Column("grantee_id", sa.String(12)),
        sa.ForeignKeyConstraint(
            ["account_id", "region", "topic"],
            ["topics.account_id", "topics.region", "topics.name"],
            name="fk_topic_grants_account_id_region_topic",
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "region", "topic", "grantee_id", name="pk_topic_grants"
        ),
    )


def _make_easy_dkim() -> None:
    """All keys are handled by persons, and every identity signs."""
    for table, column in (
        ("identities", sa.Column("dkim_origin", sa.String(8))),
        (
            "identities",
            sa.Column("dkim_enabled", sa.Boolean, nullable=False, server_default=sa.true()),
        ),
        ("identities", sa.Column("soa", sa.Text, nullable=False, server_default="")),
        (
            "dkim_keys",
            sa.Column("origin", sa.String(8), nullable=False, server_default="manual"),
        ),
    ):
        op.add_column(table, column)


def _make_tags() -> None:
    """No identity and no configuration set has tags."""
    op.create_table(
        "resource_tags",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("kind", sa.String(8)),
        sa.Column("name", sa.String(320)),
        sa.Column("tag", sa.String(128)),
        sa.Column("value", sa.String(256), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_resource_tags_account_id"
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "region", "kind", "name", "tag", name="pk_resource_tags"
        ),
    )


def _make_account_settings() -> None:
    """Every account sends, and has described its mail nowhere."""
    is_sending = sa.Column("is_sending", sa.Boolean, nullable=False, server_default=sa.true())
    op.add_column("accounts", is_sending)
    op.add_column("accounts", sa.Column("details", Json))


def _make_templates() -> None:
    """No account has a template."""
    op.create_table(
        "email_templates",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("name", sa.String(64)),
        sa.Column("subject_part", sa.Text),
        sa.Column("text_part", sa.Text),
        sa.Column("html_part", sa.Text),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_email_templates_account_id"
        ),
        sa.PrimaryKeyConstraint("account_id", "region", "name", name="pk_email_templates"),
    )


def _make_display_names() -> None:
    """No topic has one."""
    display_name = sa.Column("display_name", sa.String(100), nullable=False, server_default="")
    op.add_column("topics", display_name)


def _make_certificates() -> None:
    """No access key needs a client certificate."""
    op.add_column(
        "access_keys", sa.Column("certificates", Json, nullable=False, server_default="[]")
    )
