"""The journal's tables: records, the terms they are found by, the statements they cite, usage,
the events of what happened later with their sums, and the tasks that follow.

Values are texts, whole numbers and octets, the same for SQLite and PostgreSQL: a row goes to
either driver as it is. Moments are microseconds since 1970, hours and days whole ones since.
Details that are only read with their record are one JSON text, encoded once.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)

from smtpgate.core.history.event_counts import EventCounts
from smtpgate.sql.partial_index import partial_index
from smtpgate.sql.types import NAMES, Serial

# The revision of these tables: the newest module of the migrations.
HEAD: Final = "0005"
# The oldest revision that is upgraded.
OLDEST: Final = "0004"

metadata = MetaData(naming_convention=NAMES)

# Compared octet by octet everywhere, so that ids sort by time whatever the database's language.
_ID: Final = String(64).with_variant(String(64, collation="C"), "postgresql")
_OCTETS: Final = Text().with_variant(Text(collation="C"), "postgresql")

# Single values: the check of the terms' key, the last sign of life, and in SQLite the number
# of the last record whose terms are sorted in.
meta = Table(
    "journal_meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

# The gates that write to the journal. The moment is the database's: hosts' clocks differ.
writers = Table(
    "journal_writers",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("mark", String(64), nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)

# One row a submission, written before the relay and completed with the verdict. Ids sort by
# time; seq tells in which order rows were written.
records = Table(
    "journal_records",
    metadata,
    Column("seq", Serial, primary_key=True),
    Column("id", _ID, nullable=False, unique=True),
    Column("kind", String(10), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("outcome", String(10), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("account_id", String(12), nullable=False),
    Column("user_arn", Text, nullable=False),
    Column("from_identity", Text, nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("recipients", Integer, nullable=False),
    Column("facts", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("writer", BigInteger),  # the gate that was to complete it
    Column("digests", LargeBinary),  # in SQLite, the terms it was written with
    sqlite_autoincrement=True,  # a number is never given twice
)
# Few at any time: messages that are being relayed, and those of a gate that was killed.
partial_index("ix_journal_records_relaying", records.c.id, records.c.outcome == "relaying")

# The terms by which records are found, as keyed digests. The hour comes first, so that an
# hour's terms lie together: they are written in one place, and forgotten in one piece. In
# SQLite the terms of the last records are not here yet (see term_sorting.py).
terms = Table(
    "journal_terms",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("term", LargeBinary(12), primary_key=True),
    Column("id", _ID, primary_key=True),
    sqlite_with_rowid=False,
)

# The texts of statements that decided, each once; with the last day of a record that cites it.
statements = Table(
    "journal_statements",
    metadata,
    Column("digest", String(32), primary_key=True),
    Column("text", Text, nullable=False),
    Column("last_day", Integer, nullable=False),
)

# Sums of messages: by 15 minutes and by day, sender, identity and reason.
usage = Table(
    "journal_usage",
    metadata,
    Column("grain", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", String(12), primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),  # in units of the grain
    Column("user_arn", Text, primary_key=True),
    Column("identity", Text, primary_key=True),
    Column("reason", String(40), primary_key=True),
    Column("owner_id", String(12), nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("recipients", BigInteger, nullable=False),
    Column("octets", BigInteger, nullable=False),
    Index(None, "grain", "owner_id", "start"),
    Index(None, "grain", "start"),
    sqlite_with_rowid=False,
)

# What happened to messages later. A provisional event is in force only with the verdict on its
# message. Types are Amazon SES's words; the recipients and the detail are one JSON text.
events = Table(
    "journal_events",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("message_id", _ID, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("type", String(40), nullable=False),
    Column("subtype", String(40), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("account_id", String(12), nullable=False),
    Column("user_arn", Text, nullable=False),
    Column("access_key", String(128), nullable=False),
    Column("identity", Text, nullable=False),
    Column("owner_id", String(12), nullable=False),
    Column("configuration_set", String(64), nullable=False),
    Column("recipients", Integer, nullable=False),
    Column("is_simulated", SmallInteger, nullable=False),
    Column("is_refusal", SmallInteger, nullable=False),
    Column("is_provisional", SmallInteger, nullable=False),
    Column("facts", Text, nullable=False),
    Index(None, "message_id"),
    Index(None, "account_id", "at_us"),
)
# Few at any time: messages that are being relayed to a part of their recipients.
partial_index(
    "ix_journal_events_provisional", events.c.message_id, events.c.is_provisional == 1
)

# Sums of events in force, in recipients: by 15 minutes and by day, for each sender, identity
# and configuration set.
event_sums = Table(
    "journal_event_sums",
    metadata,
    Column("grain", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", String(12), primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),  # in units of the grain
    Column("user_arn", Text, primary_key=True),
    Column("access_key", String(128), primary_key=True),
    Column("identity", Text, primary_key=True),
    Column("configuration_set", String(64), primary_key=True),
    Column("owner_id", String(12), nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in EventCounts.__struct_fields__),
    Index(None, "grain", "owner_id", "start"),
    Index(None, "grain", "start"),
    sqlite_with_rowid=False,
)

# Recipients of accepted messages with a configuration set, by 15 minutes and by day.
set_usage = Table(
    "journal_set_usage",
    metadata,
    Column("grain", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", String(12), primary_key=True),
    Column("configuration_set", String(64), primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),  # in units of the grain
    Column("recipients", BigInteger, nullable=False),
    Index(None, "grain", "start"),
    sqlite_with_rowid=False,
)

# Deliveries of events, one row a task. Those that wait are found by their lane and the time
# when they are due; a lease moves that time ahead.
tasks = Table(
    "journal_tasks",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("event_id", _ID, nullable=False),
    Column("message_id", _ID, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("destination_kind", String(10), nullable=False),
    Column("destination", Text, nullable=False),
    Column("account_id", String(12), nullable=False),
    Column("lane", _OCTETS, nullable=False),
    Column("state", String(11), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("leased_by", BigInteger),  # the gate that carries it out
    Column("answer", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index(None, "state", "lane", "due_us"),
    Index(None, "message_id"),
    Index(None, "done_us"),
)
