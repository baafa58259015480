"""Tables of this version, with data, become those of a later one; never the other way."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, String, insert, select, text

from smtpgate.directory.schema import HEAD, OLDEST, metadata
from smtpgate.directory.store import SCHEMA
from smtpgate.journal.store import SCHEMA as JOURNAL
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql import upgrade as schemas
from smtpgate.sql.database import Database, parse_url
from smtpgate.sql.upgrade import Schema, SchemaError, is_upgradable
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


def _later() -> Schema:
    """The tables of a later version, whose accounts have a language."""
    later = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(later)
    language = Column("language", String(8), nullable=False, server_default="en")
    later.tables["accounts"].append_column(language)
    return Schema("directory", later, "0007", OLDEST, "tests.support.revisions")


LATER: Final = _later()


def _differences(connection: Connection, wanted: MetaData) -> list[Any]:
    options = {"version_table": SCHEMA.version_table}
    context = MigrationContext.configure(connection, opts=options)
    found: list[Any] = compare_metadata(context, wanted)
    return found


async def fill(database: Database) -> None:
    """Put a row into each table."""
    async with database.changing() as connection:
        for table in metadata.sorted_tables:
            await connection.execute(insert(table).values(ROWS[table.name]))


async def look(database: Database, schema: Schema = SCHEMA) -> None:
    async with database.reading() as connection:
        await schemas.must_be_current(database, connection, schema)


async def test_what_an_earlier_version_wrote_is_all_there(database: Database) -> None:
    assert await schemas.upgrade(database, SCHEMA) == (None, HEAD)
    await fill(database)
    with pytest.raises(SchemaError, match="is at revision 0006, this version needs 0007"):
        await look(database, LATER)
    assert await is_upgradable(database, LATER) == database.is_sqlite
    assert await schemas.upgrade(database, LATER) == (HEAD, "0007")
    await look(database, LATER)
    async with database.reading() as connection:
        assert await connection.run_sync(_differences, LATER.tables) == []
        for name, wanted in ROWS.items():
            table = LATER.tables.tables[name]
            row = (await connection.execute(select(table))).mappings().one()
            assert {key: row[table.c[key]] for key in wanted} == wanted, name
            assert name != "accounts" or row[table.c.language] == "en"
    assert set(ROWS) == set(metadata.tables)
    with pytest.raises(SchemaError, match="a later version of smtpgate"):
        await look(database)


@pytest.mark.parametrize("schema", [SCHEMA, LATER], ids=["this version", "a later one"])
async def test_a_new_directory_has_the_tables_of_its_version(
    database: Database, schema: Schema
) -> None:
    assert await schemas.upgrade(database, schema) == (None, schema.head)
    async with database.reading() as connection:
        assert await connection.run_sync(_differences, schema.tables) == []
    await look(database, schema)


@pytest.mark.parametrize("schema", [SCHEMA, JOURNAL], ids=["directory", "journal"])
def test_the_newest_module_of_the_migrations_is_the_revision_of_the_tables(
    schema: Schema,
) -> None:
    folder = str(files(schema.revisions))
    scripts = ScriptDirectory(folder, version_locations=[folder])
    assert scripts.get_current_head() == schema.head
    assert scripts.get_base() == schema.oldest


async def test_a_later_version_s_tables_are_left_alone(database: Database) -> None:
    _ = await schemas.upgrade(database, SCHEMA)
    async with database.changing() as connection:
        await connection.execute(text("UPDATE directory_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="last used by a later version of smtpgate"):
        _ = await schemas.upgrade(database, SCHEMA)
    with pytest.raises(SchemaError, match="a later version of smtpgate"):
        await look(database)
    assert await schemas.revision_of(database, SCHEMA) == "9999"


@pytest.mark.parametrize("revision", ["0001", "0005"])
async def test_tables_too_old_to_be_upgraded_are_left_alone(
    database: Database, revision: str
) -> None:
    _ = await schemas.upgrade(database, SCHEMA)
    async with database.changing() as connection:
        await connection.execute(
            text("UPDATE directory_version SET version_num = :revision"), {"revision": revision}
        )
    says = (
        f"is at revision {revision}, and this version upgrades from revision {OLDEST} on; first"
    )
    with pytest.raises(SchemaError, match=says):
        _ = await schemas.upgrade(database, SCHEMA)
    with pytest.raises(SchemaError, match=says):
        await look(database)
    assert not await is_upgradable(database, SCHEMA)
    assert await schemas.revision_of(database, SCHEMA) == revision


async def test_an_upgrade_that_is_done_does_nothing(database: Database) -> None:
    _ = await schemas.upgrade(database, SCHEMA)
    assert await schemas.upgrade(database, SCHEMA) == (HEAD, HEAD)


async def test_tables_of_another_program_are_not_taken_for_those_of_a_directory(
    database: Database,
) -> None:
    async with database.changing() as connection:
        await connection.execute(text("CREATE TABLE users (login VARCHAR(80))"))
        await connection.execute(text("CREATE TABLE accounts (balance INTEGER)"))
    with pytest.raises(SchemaError, match="of another program: accounts, users; use"):
        _ = await schemas.upgrade(database, SCHEMA)
    assert await schemas.revision_of(database, SCHEMA) is None
    assert (await schemas.upgrade(database, JOURNAL))[1] == JOURNAL.head, "it has other names"


async def test_tables_that_two_processes_make_at_once_are_made_once(
    databases: Databases,
) -> None:
    url = parse_url(databases.empty())
    made = [Database(url, DirectoryUnavailableError) for _ in range(3)]
    found = await asyncio.gather(*(schemas.upgrade(one, SCHEMA) for one in made))
    assert sorted(found, key=str) == [(HEAD, HEAD), (HEAD, HEAD), (None, HEAD)]
    for one in made:
        await look(one)
        await one.close()


async def test_tables_whose_making_was_cut_short_are_made_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring = schemas._bring_to_head

    def bring_and_fail(connection: Connection, *words: Any) -> None:  # noqa: ANN401 - as given
        bring(connection, *words)
        assert connection.dialect.has_table(connection, "accounts")
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(schemas, "_bring_to_head", bring_and_fail)
        with pytest.raises(ZeroDivisionError):
            _ = await schemas.upgrade(database, SCHEMA)
    assert await schemas.upgrade(database, SCHEMA) == (None, HEAD)
