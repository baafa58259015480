"""The tables of the directory, the same on SQLite and PostgreSQL.

They have no secret in clear: secrets of access keys and private keys are sealed (see
:mod:`smtpgate.directory.sealing`). ``audit_log`` is append-only, by triggers of the database.
It is the change feed too: a cache reads the entries that were added to it.
"""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import (
    DDL,
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
    event,
    false,
    true,
)

from smtpgate.sql.types import NAMES, Json, Moment, Serial

# The revision of these tables: the newest module of the migrations.
HEAD: Final = "0006"
# The oldest revision that is upgraded.
OLDEST: Final = "0006"

metadata = MetaData(naming_convention=NAMES)


def _account_id() -> Column[str]:
    return Column("account_id", ForeignKey("accounts.id"), primary_key=True)


master_keys = Table(
    "master_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("check", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", Text, nullable=False),
    Column("organization_id", String(34)),
    Column("contact", String(320)),  # the address of its administrator, for reports
    Column("paused_reason", Text),  # null: not paused
    Column("is_sending", Boolean, nullable=False, server_default=true()),  # its own switch
    Column("details", Json),  # what it says of its mail, by SES's names
    Column("max_24h_send", BigInteger),  # null: as the configuration's [limits] says
    Column("max_send_rate_per_s", Float),
    Column("created_at", Moment, nullable=False),
)

users = Table(
    "users",
    metadata,
    _account_id(),
    Column("key", String(64), primary_key=True),  # the name in lower case
    Column("name", String(64), nullable=False),
    Column("path", String(512), nullable=False),
    Column("tags", Json, nullable=False),
    Column("unique_id", String(21), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("user_key", String(64)),  # null: the account's root
    Column("secret", LargeBinary, nullable=False),  # sealed
    Column("is_active", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("networks", Json, nullable=False),
    Column("certificates", Json, nullable=False, server_default="[]"),  # pins
    Column("last_used_at", Moment),
    Column("last_used_from", String(45)),
    Column("watch_state", String(9)),  # null: nothing about its use is open
    Column("watch_reason", Text),
    Column("watch_since", Moment),
    Column("slowed_to_per_s", Float),
    Column("cleared_at", Moment),  # the last confirmation or resumption
    Column("clearing", String(9)),
    ForeignKeyConstraint(["account_id"], ["accounts.id"]),
    ForeignKeyConstraint(["account_id", "user_key"], ["users.account_id", "users.key"]),
    Index(None, "account_id", "user_key"),
)

# Of the use of each key, see smtpgate.core.watch.
key_profiles = Table(
    "key_profiles",
    metadata,
    Column("key_id", ForeignKey("access_keys.id"), primary_key=True),
    Column("profile", LargeBinary, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("name", String(320), primary_key=True),
    Column("domain", String(255), nullable=False),  # the name's, or the name itself
    Column("token", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    Column("method", String(8)),
    Column("started_at", Moment),
    Column("verified_at", Moment),
    Column("checked_at", Moment),
    Column("missing_since", Moment),
    Column("next_check_at", Moment),
    Column("problem", Text, nullable=False, server_default=""),
    Column("soa", Text, nullable=False, server_default=""),  # as the last check found it
    Column("code_digest", LargeBinary),
    Column("code_sent_at", Moment),
    Column("code_failures", Integer, nullable=False, server_default="0"),
    Column("paused_reason", Text),
    Column("configuration_set", String(64)),  # the default one, of the same account
    Column("suppresses_delegates", Boolean, nullable=False, server_default=false()),
    Column("dkim_origin", String(8)),  # of the keys that sign by themselves once published
    Column("dkim_enabled", Boolean, nullable=False, server_default=true()),
    Column("created_at", Moment, nullable=False),
    Index(None, "region", "name"),
    Index(None, "region", "domain", "name"),
    Index(None, "next_check_at"),
)

# Tags of identities, configuration sets (kind "set") and topics.
resource_tags = Table(
    "resource_tags",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", String(320), primary_key=True),
    Column("tag", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
)

mail_from_domains = Table(
    "mail_from_domains",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("identity", String(320), primary_key=True),
    Column("domain", String(255), nullable=False),
    Column("on_mx_failure", String(8), nullable=False),
    Column("state", String(20), nullable=False),
    Column("method", String(8)),
    Column("started_at", Moment),
    Column("verified_at", Moment),
    Column("checked_at", Moment),
    Column("missing_since", Moment),
    Column("next_check_at", Moment),
    Column("problem", Text, nullable=False),
    ForeignKeyConstraint(
        ["account_id", "region", "identity"],
        ["identities.account_id", "identities.region", "identities.name"],
    ),
    Index(None, "next_check_at"),
)

# Of users (region is empty, subject the user's key) and of identities (subject is the name).
policies = Table(
    "policies",
    metadata,
    _account_id(),
    Column("kind", String(8), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("subject", String(320), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("changed_by", Text, nullable=False),
)

# Every document that ever stood there; null when it was taken away. Outlives its subject.
policy_versions = Table(
    "policy_versions",
    metadata,
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

dkim_keys = Table(
    "dkim_keys",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("domain", String(255), primary_key=True),
    Column("selector", String(255), primary_key=True),
    Column("algorithm", String(16), nullable=False),
    Column("private_key", LargeBinary, nullable=False),  # sealed
    Column("record", Text, nullable=False),  # to be published in the DNS
    Column("stage", String(8), nullable=False),
    Column("origin", String(8), nullable=False, server_default="manual"),
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

# Limits of users (subject is the key of the name), of access keys (the id), and of identities
# (the name) for the account in delegate_id; of accounts (subject is empty) only raises. Outside
# identities region and delegate_id are empty. Null limits or raises nothing.
quotas = Table(
    "quotas",
    metadata,
    _account_id(),
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

# In all tables below a topic of the same account is named by its name, and in settings one of
# another account as ACCOUNT/NAME.
topics = Table(
    "topics",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("signature_version", String(1), nullable=False),
    Column("display_name", String(100), nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("region", String(32), nullable=False),
    Column("topic", String(256), nullable=False),
    Column("form", String(8), nullable=False),
    Column("endpoint", Text, nullable=False),  # without credentials
    Column("credentials", LargeBinary),  # sealed
    Column("secret", LargeBinary),  # sealed
    Column("is_confirmed", Boolean, nullable=False),
    Column("token_digest", LargeBinary),
    Column("token_sent_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("confirmed_at", Moment),
    ForeignKeyConstraint(
        ["account_id", "region", "topic"], ["topics.account_id", "topics.region", "topics.name"]
    ),
    Index(None, "account_id", "region", "topic"),
)

# The other accounts whose settings may name a topic.
topic_grants = Table(
    "topic_grants",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("topic", String(256), primary_key=True),
    Column("grantee_id", String(12), primary_key=True),
    ForeignKeyConstraint(
        ["account_id", "region", "topic"], ["topics.account_id", "topics.region", "topics.name"]
    ),
)

# By the account that wants them: the owner of the identity, or a delegate. A delegate's do not
# depend on whether there is such an identity.
identity_notifications = Table(
    "identity_notifications",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("owner_id", String(12), primary_key=True),
    Column("identity", String(320), primary_key=True),
    Column("bounce_topic", String(256)),
    Column("complaint_topic", String(256)),
    Column("delivery_topic", String(256)),
    Column("bounce_headers", Boolean, nullable=False),
    Column("complaint_headers", Boolean, nullable=False),
    Column("delivery_headers", Boolean, nullable=False),
    Column("is_forwarding", Boolean, nullable=False),  # the owner's alone
    Index(None, "region", "identity"),
)

configuration_sets = Table(
    "configuration_sets",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("is_sending", Boolean, nullable=False),
    Column("suppressed_reasons", Json),  # null: as the account's
    Column("created_at", Moment, nullable=False),
)

event_destinations = Table(
    "event_destinations",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("configuration_set", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("is_enabled", Boolean, nullable=False),
    Column("types", Json, nullable=False),
    Column("topic", String(256), nullable=False),
    ForeignKeyConstraint(
        ["account_id", "region", "configuration_set"],
        [
            "configuration_sets.account_id",
            "configuration_sets.region",
            "configuration_sets.name",
        ],
    ),
)

email_templates = Table(
    "email_templates",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("subject_part", Text),
    Column("text_part", Text),
    Column("html_part", Text),
    Column("created_at", Moment, nullable=False),
)

# Null are the reasons of every account. ``has_addresses`` is true while the list has any.
suppression_settings = Table(
    "suppression_settings",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("reasons", Json),
    Column("has_addresses", Boolean, nullable=False),
)

suppressed_addresses = Table(
    "suppressed_addresses",
    metadata,
    _account_id(),
    Column("region", String(32), primary_key=True),
    Column("address", String(320), primary_key=True),
    Column("reason", String(9), nullable=False),
    Column("added_at", Moment, nullable=False),
    Column("message_id", String(64), nullable=False),  # empty: a person or an import
)

# Senders that were judged, or paused by an owner: those that are healthy and always were
# have no row. Of the kind "account" owner_id and name are empty; of "set" owner_id, and name is
# the configuration set; of "delegate" these are the identity's.
reputations = Table(
    "reputations",
    metadata,
    Column("account_id", String(12), primary_key=True),  # an owner's pause outlives it
    Column("kind", String(8), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("owner_id", String(12), primary_key=True),
    Column("name", String(320), primary_key=True),
    Column("bounce", String(16), nullable=False),
    Column("complaint", String(16), nullable=False),
    Column("since", Moment),  # with the three sums: the volume at the last change
    Column("sent", BigInteger, nullable=False),
    Column("bounces", BigInteger, nullable=False),
    Column("complaints", BigInteger, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("fresh_start_at", Moment),
    Column("paused_by", String(8)),
    Column("paused_reason", Text),
    Column("paused_at", Moment),
    Index(None, "region", "kind", "name", "owner_id"),
)

# Configuration sets whose mail is judged, and identities whose owner has its delegates judged.
reputation_settings = Table(
    "reputation_settings",
    metadata,
    _account_id(),
    Column("kind", String(8), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("name", String(320), primary_key=True),
    Column("auto_pause", Boolean, nullable=False),
)

# The fields of each object in the documents that were last applied, without secrets. Of
# access keys account_id and region are empty; the name is that of a policy or DKIM key, or the
# delegate of a cap.
applied_objects = Table(
    "applied_objects",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("account_id", String(12), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("subject", String(320), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("said", Json, nullable=False),
    Column("applied_at", Moment, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
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
    sqlite_autoincrement=True,  # a number is never given twice
)

_ABORT: Final = "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
_IS_THERE: Final = "EXISTS (SELECT 1 FROM audit_log WHERE seq = NEW.seq)"
# Statements that make the audit log append-only, also at a SQL prompt.
_SQLITE_TRIGGERS: Final = (
    f"CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log {_ABORT}",
    f"CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log {_ABORT}",
    # INSERT OR REPLACE takes a line away without its being called a DELETE.
    f"CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log WHEN {_IS_THERE} {_ABORT}",
)
_POSTGRESQL_TRIGGERS: Final = (
    "CREATE FUNCTION audit_log_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
    "CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log "
    "FOR EACH ROW EXECUTE FUNCTION audit_log_append_only()",
    "CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_append_only()",
)


def _make_with_audit_log(triggers: Iterable[str], *, dialect: str) -> None:
    """Have the triggers made where the table is made in a database of that dialect."""
    for trigger in triggers:
        only_there = DDL(trigger).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
        event.listen(audit_log, "after_create", only_there)


_make_with_audit_log(_SQLITE_TRIGGERS, dialect="sqlite")
_make_with_audit_log(_POSTGRESQL_TRIGGERS, dialect="postgresql")
