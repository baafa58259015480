"""Topics, subscriptions, notifications, configuration sets, and MAIL FROM domains."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from smtpgate.sql.types import Json, Moment

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Make the tables; identities get a default configuration set, which is none."""
    op.add_column("identities", sa.Column("configuration_set", sa.String(64)))
    _make_topics()
    _make_settings()
    _make_configuration_sets()
    _make_mail_from_domains()


def _make_topics() -> None:
    op.create_table(
        "topics",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("name", sa.String(256)),
        sa.Column("signature_version", sa.String(1), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_topics_account_id"),
        sa.PrimaryKeyConstraint("account_id", "region", "name", name="pk_topics"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(36)),
        sa.Column("account_id", sa.String(12), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("topic", sa.String(256), nullable=False),
        sa.Column("form", sa.String(8), nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("credentials", sa.LargeBinary),
        sa.Column("secret", sa.LargeBinary),
        sa.Column("is_confirmed", sa.Boolean, nullable=False),
        sa.Column("token_digest", sa.LargeBinary),
        sa.Column("token_sent_at", Moment),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("confirmed_at", Moment),
        sa.ForeignKeyConstraint(
            ["account_id", "region", "topic"],
            ["topics.account_id", "topics.region", "topics.name"],
            name="fk_subscriptions_account_id_region_topic",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_subscriptions"),
    )
    op.create_index(
        "ix_subscriptions_account_id_region_topic",
        "subscriptions",
        ["account_id", "region", "topic"],
    )


def _make_settings() -> None:
    op.create_table(
        "identity_notifications",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("owner_id", sa.String(12)),
        sa.Column("identity", sa.String(320)),
        sa.Column("bounce_topic", sa.String(256)),
        sa.Column("complaint_topic", sa.String(256)),
        sa.Column("delivery_topic", sa.String(256)),
        sa.Column("bounce_headers", sa.Boolean, nullable=False),
        sa.Column("complaint_headers", sa.Boolean, nullable=False),
        sa.Column("delivery_headers", sa.Boolean, nullable=False),
        sa.Column("is_forwarding", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_identity_notifications_account_id"
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "region", "owner_id", "identity", name="pk_identity_notifications"
        ),
    )
    op.create_index(
        "ix_identity_notifications_region_identity",
        "identity_notifications",
        ["region", "identity"],
    )


def _make_configuration_sets() -> None:
    op.create_table(
        "configuration_sets",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("name", sa.String(64)),
        sa.Column("is_sending", sa.Boolean, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_configuration_sets_account_id"
        ),
        sa.PrimaryKeyConstraint("account_id", "region", "name", name="pk_configuration_sets"),
    )
    op.create_table(
        "event_destinations",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("configuration_set", sa.String(64)),
        sa.Column("name", sa.String(64)),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("types", Json, nullable=False),
        sa.Column("topic", sa.String(256), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "region", "configuration_set"],
            [
                "configuration_sets.account_id",
                "configuration_sets.region",
                "configuration_sets.name",
            ],
            name="fk_event_destinations_account_id_region_configuration_set",
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "region", "configuration_set", "name", name="pk_event_destinations"
        ),
    )


def _make_mail_from_domains() -> None:
    op.create_table(
        "mail_from_domains",
        sa.Column("account_id", sa.String(12)),
        sa.Column("region", sa.String(32)),
        sa.Column("identity", sa.String(320)),
        sa.Column("domain", sa.String(255), nullable=False),
        sa.Column("on_mx_failure", sa.String(8), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("method", sa.String(8)),
        sa.Column("started_at", Moment),
        sa.Column("verified_at", Moment),
        sa.Column("checked_at", Moment),
        sa.Column("missing_since", Moment),
        sa.Column("next_check_at", Moment),
        sa.Column("problem", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_mail_from_domains_account_id"
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "region", "identity"],
            ["identities.account_id", "identities.region", "identities.name"],
            name="fk_mail_from_domains_account_id_region_identity",
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "region", "identity", name="pk_mail_from_domains"
        ),
    )
    op.create_index(
        "ix_mail_from_domains_next_check_at", "mail_from_domains", ["next_check_at"]
    )
