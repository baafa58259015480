"""A directory copied to another database: every row of it, on both kinds of databases."""

import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select

from smtpgate.core.watch.profile import Profile
from smtpgate.directory.accounts import update_account
from smtpgate.directory.audit import AuditFilter, audit_page
from smtpgate.directory.change import ConflictError, RefusedChangeError
from smtpgate.directory.copying import copy
from smtpgate.directory.documents.desired import Desired, DesiredAccount, Pause, SourceLocation
from smtpgate.directory.key_watch import store_profiles
from smtpgate.directory.quotas import QuotaKey
from smtpgate.directory.schema import metadata
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.tags import Tagged, put_tags
from smtpgate.directory.templates import TemplateRow, create_template
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql.database import Database, parse_url
from tests.support.databases import Databases
from tests.support.directory import ACTOR, open_store
from tests.support.documents import applied
from tests.support.reputations import DELEGATE, pause, rate
from tests.support.suppression import suppress
from tests.support.tenants import (
    ACME,
    OTHER,
    add_account,
    add_identity,
    add_key,
    add_mail_from,
    add_user,
    limit,
    signing_key,
)
from tests.support.topics import (
    add_destination,
    add_set,
    add_topic,
    allow,
    notify,
    subscribe,
)
from tests.support.world import REGION

DECLARED: Final = DesiredAccount(
    location=SourceLocation(Path("accounts.toml"), ("accounts", OTHER)),
    id=OTHER,
    name="Other",
    organization_id=None,
    contact=None,
    pause=Pause(),
    max_24h_send=None,
    max_send_rate_per_s=None,
)
Rows = dict[str, list[tuple[Any, ...]]]


def quiet(table: str, rows: int) -> None:
    """Listen to no progress."""


async def rows_of(database: Database) -> Rows:
    async with database.reading() as connection:
        return {
            table.name: sorted(
                (tuple(row) for row in await connection.execute(select(table))), key=repr
            )
            for table in metadata.sorted_tables
        }


async def fill(store: DirectoryStore) -> None:
    """Something in every table."""
    await add_account(store)
    await add_user(store, tags={"team": "news"})
    pin = f"sha256:{'0a' * 32}"
    key = await add_key(
        store, user_name="mailer", networks=("192.0.2.0/24",), certificates=(pin,)
    )
    await add_identity(store)
    await add_mail_from(store)
    await signing_key(store)
    await limit(store, QuotaKey.of_user(ACME, "mailer"), max_24h_send=5)
    await add_topic(store)
    await allow(store, OTHER)
    await subscribe(store, "https://me:pass@hooks.example.com/")
    await notify(store, bounce_topic="bounces")
    await add_set(store)
    await pause(store, DELEGATE)
    await rate(store)
    await add_destination(store, "SEND")
    await suppress(store, "jane@example.org")
    async with store.changing(ACTOR) as change:
        await put_tags(change, Tagged(ACME, REGION, "identity", "example.com"), {"a": "b"})
        row = TemplateRow(account_id=ACME, region=REGION, name="welcome", text_part="Hello.")
        await create_template(change, row)
    async with store.database.changing() as connection:
        profile = Profile(first_day=20_000)
        await store_profiles(connection, {key.id: profile}, store.now())
    await applied(store, Desired(accounts=(DECLARED,)), prune=False)


def other(url: str) -> Database:
    return Database(parse_url(url), DirectoryUnavailableError)


async def test_a_copy_has_every_row_and_goes_on_counting(
    store: DirectoryStore, databases: Databases
) -> None:
    await fill(store)
    url = databases.empty()
    target = other(url)
    await copy(store, target, quiet)
    copied = await rows_of(target)
    assert copied == await rows_of(store.database)
    assert all(copied.values())
    await target.close()
    async with open_store(url) as moved:
        async with moved.changing(ACTOR) as change:
            await update_account(change, ACME, {"name": "moved"})
        async with moved.reading() as connection:
            newest = await audit_page(connection, AuditFilter(), newest_first=True, limit=2)
    assert newest[0].seq == newest[1].seq + 1


@pytest.mark.integration
async def test_a_directory_moves_from_sqlite_to_postgresql_and_back(
    sqlite_databases: Databases, postgres_databases: Databases
) -> None:
    async with open_store(sqlite_databases.fresh()) as first:
        await fill(first)
        url = postgres_databases.empty()
        there = other(url)
        await copy(first, there, quiet)
        await there.close()
        async with open_store(url) as second:
            back = other(sqlite_databases.empty())
            await copy(second, back, quiet)
            assert await rows_of(first.database) == await rows_of(second.database)
            assert await rows_of(back) == await rows_of(first.database)
            await back.close()


async def test_an_empty_directory_is_copied_too(
    store: DirectoryStore, databases: Databases
) -> None:
    target = other(databases.empty())
    await copy(store, target, quiet)
    assert await rows_of(target) == await rows_of(store.database)
    await target.close()


async def test_what_holds_a_directory_is_left_alone(
    store: DirectoryStore, databases: Databases
) -> None:
    await fill(store)
    url = databases.fresh()
    async with open_store(url) as occupied:
        before = await rows_of(occupied.database)
        with pytest.raises(RefusedChangeError, match="holds a directory already"):
            await copy(store, occupied.database, quiet)
        assert await rows_of(occupied.database) == before


async def test_a_change_in_the_middle_leaves_nothing_copied(
    sqlite_databases: Databases,
) -> None:
    async with open_store(sqlite_databases.fresh()) as source:
        await fill(source)
        target = other(sqlite_databases.empty())

        def change(table: str, rows: int) -> None:
            """Another connection writes while the copy is made."""
            if table == "accounts":
                with sqlite3.connect(str(source.database.path)) as connection:
                    connection.execute(
                        "INSERT INTO audit_log "
                        "(at, actor, origin, action, kind, account_id, name) "
                        "VALUES ('2026-01-01 00:00:00.000000', 'x', 'x', 'x', 'user', 'x', 'x')"
                    )
                connection.close()

        with pytest.raises(ConflictError, match="was changed while it was copied"):
            await copy(source, target, change)
        assert not any((await rows_of(target)).values())
        await target.close()
