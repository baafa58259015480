"""Tables of an earlier version, with data, become those of this one; never the other way."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, insert, select, text

from smtpgate.directory.schema import HEAD, OLDEST, metadata
from smtpgate.directory.upgrade import SCHEMA, must_be_current, revision_of, upgrade
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql.database import Database, parse_url
from smtpgate.sql.migrations import migrate
from smtpgate.sql.upgrade import SchemaError, is_upgradable
from tests.support.databases import Databases

AT: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
# A row of each table.
ROWS: Final[dict[str, dict[str, Any]]] = {
    "master_keys": {"id": "m1", "check": b"check", "created_at": AT},
    "accounts": {"id": "888888888888", "name": "Owner", "created_at": AT},
    "users": {
        "account_id": "888888888888",
        "key": "mailer",
        "name": "Mailer",
        "path": "/",
        "tags": {"team": "news"},
        "unique_id": "AIDA00000000000000000",
        "created_at": AT,
    },
    "access_keys": {
        "id": "AKIA8888888888880001",
        "account_id": "888888888888",
        "user_key": "mailer",
        "secret": b"sealed",
        "is_active": True,
        "created_at": AT,
        "networks": ["192.0.2.0/24"],
        "certificates": [f"sha256:{'0a' * 32}"],
    },
    "key_profiles": {
        "key_id": "AKIA8888888888880001",
        "profile": b"profile",
        "updated_at": AT,
    },
    "identities": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "name": "ses-example.com",
        "domain": "ses-example.com",
        "token": "token",
        "state": "success",
        "method": "txt",
        "verified_at": AT,
        "created_at": AT,
    },
    "policies": {
        "account_id": "888888888888",
        "kind": "identity",
        "region": "us-east-1",
        "subject": "ses-example.com",
        "name": "marketing",
        "document": "{}",
        "version": 1,
        "changed_at": AT,
        "changed_by": "tester",
    },
    "dkim_keys": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "domain": "ses-example.com",
        "selector": "one",
        "algorithm": "rsa-sha256",
        "private_key": b"sealed",
        "record": "v=DKIM1; p=",
        "stage": "active",
        "since": AT,
        "created_at": AT,
    },
    "quotas": {
        "account_id": "888888888888",
        "kind": "identity",
        "region": "us-east-1",
        "subject": "ses-example.com",
        "delegate_id": "999999999999",
        "max_24h_send": 100,
        "max_send_rate_per_s": 0.5,
        "raised_24h_send": 1000,
        "raised_until": AT,
    },
    "topics": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "name": "bounces",
        "signature_version": "1",
        "created_at": AT,
    },
    "email_templates": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "name": "welcome",
        "subject_part": "Hello {{name}}",
        "text_part": "Hello.",
        "created_at": AT,
    },
    "topic_grants": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "topic": "bounces",
        "grantee_id": "999999999999",
    },
    "subscriptions": {
        "id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "account_id": "888888888888",
        "region": "us-east-1",
        "topic": "bounces",
        "form": "raw",
        "endpoint": "https://hooks.example.com/",
        "secret": b"sealed",
        "is_confirmed": True,
        "created_at": AT,
    },
    "identity_notifications": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "owner_id": "888888888888",
        "identity": "ses-example.com",
        "bounce_topic": "bounces",
        "bounce_headers": True,
        "complaint_headers": False,
        "delivery_headers": False,
        "is_forwarding": True,
    },
    "mail_from_domains": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "identity": "ses-example.com",
        "domain": "bounce.ses-example.com",
        "on_mx_failure": "reject",
        "state": "pending",
        "next_check_at": AT,
        "problem": "",
    },
    "configuration_sets": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "name": "spring",
        "is_sending": True,
        "created_at": AT,
    },
    "event_destinations": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "configuration_set": "spring",
        "name": "all",
        "is_enabled": True,
        "types": ["SEND"],
        "topic": "bounces",
    },
    "resource_tags": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "kind": "identity",
        "name": "example.com",
        "tag": "team",
        "value": "news",
    },
    "suppression_settings": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "reasons": ["COMPLAINT"],
        "has_addresses": True,
    },
    "suppressed_addresses": {
        "account_id": "888888888888",
        "region": "us-east-1",
        "address": "jane@example.org",
        "reason": "BOUNCE",
        "added_at": AT,
        "message_id": "",
    },
    "reputations": {
        "account_id": "999999999999",
        "kind": "delegate",
        "region": "us-east-1",
        "owner_id": "888888888888",
        "name": "ses-example.com",
        "bounce": "pause",
        "complaint": "healthy",
        "since": AT,
        "sent": 1000,
        "bounces": 100,
        "complaints": 0,
        "changed_at": AT,
        "paused_by": "gate",
        "paused_reason": "it has a bounce rate of 10.00 %",
        "paused_at": AT,
    },
    "reputation_settings": {
        "account_id": "888888888888",
        "kind": "identity",
        "region": "us-east-1",
        "name": "ses-example.com",
        "auto_pause": True,
    },
    "applied_objects": {
        "kind": "account",
        "account_id": "888888888888",
        "region": "",
        "subject": "",
        "name": "",
        "said": {"name": "Owner"},
        "applied_at": AT,
    },
    "audit_log": {
        "at": AT,
        "actor": "tester",
        "origin": "a test",
        "action": "create",
        "kind": "account",
        "account_id": "888888888888",
        "name": "",
        "after": {"name": "Owner"},
    },
}
ROWS["policy_versions"] = ROWS["policies"]


@pytest.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    """A database without tables."""
    made = Database(parse_url(databases.empty()), DirectoryUnavailableError)
    made.create_file()
    yield made
    await made.close()


async def at_revision(database: Database, revision: str) -> None:
    async with database.changing() as connection:
        places = SCHEMA.revisions, SCHEMA.version_table
        await connection.run_sync(migrate, *places, revision)


def _differences(connection: Connection) -> list[Any]:
    options = {"version_table": SCHEMA.version_table}
    context = MigrationContext.configure(connection, opts=options)
    found: list[Any] = compare_metadata(context, metadata)
    return found


def _filled(connection: Connection) -> dict[str, dict[str, Any]]:
    """A row in every table that there is; the rows by their tables."""
    tables = MetaData()
    tables.reflect(connection)
    rows = {}
    for name in metadata.tables:
        if name in tables.tables:
            # The types of this version, the columns of that one.
            known = {column.name for column in tables.tables[name].columns}
            rows[name] = {key: value for key, value in ROWS[name].items() if key in known}
            connection.execute(insert(metadata.tables[name]).values(rows[name]))
    return rows


@pytest.mark.parametrize("revision", [OLDEST, HEAD])
async def test_what_an_earlier_version_wrote_is_all_there(
    database: Database, revision: str
) -> None:
    await at_revision(database, revision)
    async with database.changing() as connection:
        rows = await connection.run_sync(_filled)
    assert await upgrade(database) == (revision, HEAD)
    await look(database)
    async with database.reading() as connection:
        for name, wanted in rows.items():
            table = metadata.tables[name]
            row = (await connection.execute(select(table))).mappings().one()
            assert {key: row[table.c[key]] for key in wanted} == wanted, name
    assert set(ROWS) == set(metadata.tables)


async def look(database: Database) -> None:
    async with database.reading() as connection:
        await must_be_current(database, connection)


async def test_the_migrations_make_the_tables_of_this_version(database: Database) -> None:
    assert await upgrade(database) == (None, HEAD)
    async with database.reading() as connection:
        assert await connection.run_sync(_differences) == []


async def test_a_later_version_s_tables_are_left_alone(database: Database) -> None:
    _ = await upgrade(database)
    async with database.changing() as connection:
        await connection.execute(text("UPDATE directory_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="last used by a later version of smtpgate"):
        _ = await upgrade(database)
    with pytest.raises(SchemaError, match="a later version of smtpgate"):
        await look(database)
    assert await revision_of(database) == "9999"


@pytest.mark.parametrize("revision", ["0001", "0002"])
async def test_tables_too_old_to_be_upgraded_are_left_alone(
    database: Database, revision: str
) -> None:
    await at_revision(database, OLDEST)
    async with database.changing() as connection:
        await connection.execute(
            text("UPDATE directory_version SET version_num = :revision"), {"revision": revision}
        )
    says = (
        f"is at revision {revision}, and this version upgrades from revision {OLDEST} on; first"
    )
    with pytest.raises(SchemaError, match=says):
        _ = await upgrade(database)
    with pytest.raises(SchemaError, match=says):
        await look(database)
    assert not await is_upgradable(database, SCHEMA)
    assert await revision_of(database) == revision


async def test_an_upgrade_that_is_done_does_nothing(database: Database) -> None:
    _ = await upgrade(database)
    assert await upgrade(database) == (HEAD, HEAD)
