"""A directory in PostgreSQL whose server is killed, frozen, full, or cuts connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from itertools import pairwise
from typing import Final

import pytest

from smtpgate.directory.accounts import account, update_account
from smtpgate.directory.live import LiveDirectory, LiveSettings
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql.database import Database, parse_url
from tests.support.clock import MovableClock
from tests.support.daemons import Lab
from tests.support.databases import Databases, PostgresDatabases
from tests.support.directory import ACTOR, live, open_store
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.postgres_pool import PostgresPool
from tests.support.tenants import (
    ACME,
    add_account,
    add_identity,
    add_key,
    add_user,
    notes,
)
from tests.support.waiting import answered, until

KEY: Final = "AKIAACME000000000001"
SLOW: Final = LiveSettings(poll_s=3600)
QUICK: Final = LiveSettings(poll_s=0.05, load_s=1)


@pytest.fixture
def server(lab: Lab) -> PostgresServer:
    """A server that a test may do anything to."""
    return postgres_server(lab)


@pytest.fixture
def own_databases(server: PostgresServer) -> Iterator[Databases]:
    with closing(PostgresPool(server)) as pool:
        PostgresDatabases.make_templates(pool)
        yield PostgresDatabases(pool)  # they end with their server


@asynccontextmanager
async def opened(
    url: str, clock: MovableClock, settings: LiveSettings
) -> AsyncIterator[tuple[DirectoryStore, LiveDirectory]]:
    """A directory with an account, its user's key and a domain, that follows."""
    async with open_store(url, clock=clock) as store:
        await add_account(store)
        await add_user(store)
        await add_key(store, KEY, user_name="mailer")
        await add_identity(store)
        directory = live(store, clock, settings)
        await directory.start()
        try:
            yield store, directory
        finally:
            await directory.stop()


async def unavailable(directory: LiveDirectory, name: str) -> str:
    with pytest.raises(DirectoryUnavailableError) as refusal:
        await directory.identities(name)
    return str(refusal.value)


async def listeners(server: PostgresServer, database: str) -> list[str]:
    query = (
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' "
        f"AND query LIKE 'LISTEN%'"
    )
    return (await asyncio.to_thread(server.sql, "postgres", query)).split()


async def pause(store: DirectoryStore, reason: str) -> None:
    async with store.changing(ACTOR) as change:
        await update_account(change, ACME, {"paused_reason": reason})


async def paused(directory: LiveDirectory) -> str | None:
    key = await directory.access_key(KEY)
    assert key is not None
    return key.principal.account.paused_reason


async def test_a_commit_wakes_who_follows(
    postgres: PostgresServer, postgres_databases: Databases, clock: MovableClock
) -> None:
    """Of any process: here it is read once an hour unless woken."""
    url = postgres_databases.fresh()
    name = str(parse_url(url).database)
    async with opened(url, clock, SLOW) as (_, directory), open_store(url) as other:
        await answered(lambda: listeners(postgres, name))
        assert await paused(directory) is None
        await pause(other, "abuse")
        await answered(lambda: paused(directory), 10)


async def test_a_listening_connection_that_was_killed_is_made_again(
    postgres: PostgresServer, postgres_databases: Databases, clock: MovableClock
) -> None:
    url = postgres_databases.fresh()
    name = str(parse_url(url).database)
    async with opened(url, clock, QUICK) as (store, directory):
        before = await answered(lambda: listeners(postgres, name))
        assert await paused(directory) is None
        for pid in before:
            postgres.sql("postgres", f"SELECT pg_terminate_backend({pid})")
        # Reading goes on without being woken ...
        await pause(store, "abuse")
        await answered(lambda: paused(directory))
        assert directory.problem is None

        # ... and it is woken again soon.
        async def others() -> set[str]:
            return set(await listeners(postgres, name)) - set(before)

        await answered(others)


async def test_a_server_that_was_killed_and_started_again_is_met_again(
    server: PostgresServer, own_databases: Databases, clock: MovableClock
) -> None:
    url = own_databases.fresh()
    async with opened(url, clock, QUICK) as (store, directory):
        assert await directory.identities("example.com")
        server.stop()
        # Requests that were under way when the connections were cut have another error.
        await until(lambda: "Connect call failed" in (directory.problem or ""))
        assert "Connect call failed" in await unavailable(directory, "new.example")
        assert await directory.identities("example.com")
        with pytest.raises(DirectoryUnavailableError, match="Connect call failed"):
            await pause(store, "abuse")
        clock.move(301)
        assert "last read 301 s ago" in await unavailable(directory, "example.com")
        server.start()
        await until(lambda: directory.problem is None)
        assert await directory.identities("example.com")
        assert await directory.identities("new.example") == ()
        await pause(store, "abuse")
        await answered(lambda: paused(directory))


async def test_a_server_that_was_killed_between_two_questions_is_met_without_an_error(
    server: PostgresServer, own_databases: Databases, clock: MovableClock
) -> None:
    url = own_databases.fresh()
    async with open_store(url, clock=clock) as store:
        await add_account(store)
        server.stop()
        server.start()
        await pause(store, "abuse")


async def test_a_frozen_server_holds_nobody_for_long(
    server: PostgresServer, own_databases: Databases, clock: MovableClock
) -> None:
    url = own_databases.fresh()
    async with opened(url, clock, QUICK) as (_, directory):
        assert await directory.identities("example.com")
        server.freeze()
        try:
            started = time.monotonic()
            says = await asyncio.gather(
                *(unavailable(directory, f"d{number}.example") for number in range(20))
            )
            assert time.monotonic() - started < 8
            assert all("no answer within 1 s" in text for text in says), says
            await until(lambda: directory.problem is not None)
            started = time.monotonic()
            assert "no answer" in await unavailable(directory, "other.example")
            assert time.monotonic() - started < 0.1
            assert await directory.identities("example.com")
        finally:
            server.thaw()
        await until(lambda: directory.problem is None)
        assert await directory.identities("d0.example") == ()
        # No connection was lost to those that nobody waits for any more.
        await asyncio.gather(*(directory.identities(f"n{one}.example") for one in range(50)))


async def test_a_gate_ends_soon_also_while_its_server_is_frozen(
    server: PostgresServer, own_databases: Databases, clock: MovableClock
) -> None:
    url = own_databases.fresh()
    try:
        async with AsyncExitStack() as stack:
            _, directory = await stack.enter_async_context(opened(url, clock, QUICK))
            await asyncio.gather(
                *(directory.identities(f"d{one}.example") for one in range(20))
            )
            server.freeze()
            started = time.monotonic()
        assert time.monotonic() - started < 15
    finally:
        server.thaw()


async def test_a_server_without_room_for_connections_is_reported_and_then_met_again(
    server: PostgresServer, own_databases: Databases, clock: MovableClock
) -> None:
    url = own_databases.fresh()
    name = str(parse_url(url).database)
    async with open_store(url, clock=clock) as store:
        await add_account(store)
    server.sql("postgres", f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    server.sql("postgres", "CREATE ROLE gate LOGIN")
    server.sql("postgres", "GRANT ALL ON SCHEMA public TO gate")
    server.sql(name, "GRANT ALL ON ALL TABLES IN SCHEMA public TO gate")
    ordinary = url.replace("smtpgate@", "gate@")
    database = Database(parse_url(ordinary), DirectoryUnavailableError)
    store = DirectoryStore(
        database=database,
        master_keys=store.master_keys,
        region=store.region,
        partition=store.partition,
        now=clock.now,
    )
    directory = live(store, clock)
    try:
        with pytest.raises(
            DirectoryUnavailableError, match="too many connections for database"
        ):
            await directory.start()
        server.sql("postgres", f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        await directory.start()
        assert directory.problem is None
        assert await directory.identities("example.com") == ()
    finally:
        await directory.stop()
        await store.close()


async def test_listening_that_is_refused_does_not_hold_up_reading(
    postgres: PostgresServer, postgres_databases: Databases, clock: MovableClock
) -> None:
    """Such as by a pool of connections between, or by too few that are allowed."""
    url = postgres_databases.fresh()
    name = str(parse_url(url).database)
    async with opened(url, clock, QUICK) as (store, directory):
        before = await answered(lambda: listeners(postgres, name))
        async with AsyncExitStack() as stack:
            for _ in range(4):  # that stay open afterwards
                _ = await stack.enter_async_context(store.reading())
        postgres.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        for pid in before:
            postgres.sql("postgres", f"SELECT pg_terminate_backend({pid})")
        for reason in ("one", "two", "three"):
            await pause(store, reason)

            async def is_seen(reason: str = reason) -> bool:
                # On a busy machine a question may want a fifth connection, and is refused one.
                with suppress(DirectoryUnavailableError):
                    return await paused(directory) == reason
                return False

            await answered(is_seen, 3)
        assert directory.problem is None
        postgres.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_a_change_waits_for_another_hosts_change_only_so_long(
    postgres: PostgresServer, postgres_databases: Databases, clock: MovableClock
) -> None:
    url = postgres_databases.fresh()
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        await add_account(one)
        async with one.changing(ACTOR):
            started = time.monotonic()
            with pytest.raises(DirectoryUnavailableError, match="busy with another change"):
                await pause(other, "abuse")
            assert 4 < time.monotonic() - started < 8
            async with other.reading() as connection:
                assert (await account(connection, ACME)).paused_reason is None
        await pause(other, "abuse")


async def test_changes_see_each_other_whatever_the_servers_default_is(
    postgres: PostgresServer, postgres_databases: Databases, clock: MovableClock
) -> None:
    for level in ("repeatable read", "serializable"):
        url = postgres_databases.fresh()
        name = parse_url(url).database
        default = f"default_transaction_isolation = '{level}'"
        postgres.sql("postgres", f"ALTER DATABASE {name} SET {default}")
        async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
            await add_account(one, paused_reason="first")
            async with asyncio.TaskGroup() as group:
                for number in range(8):
                    group.create_task(pause(one if number % 2 else other, f"reason {number}"))
            lines = [note for note in await notes(one) if note.action == "change"]
            assert len(lines) == 8
            for earlier, later in pairwise(lines):
                assert later.before == earlier.after


async def test_no_error_tells_a_password_or_a_statement(
    postgres: PostgresServer, clock: MovableClock
) -> None:
    port = postgres.port
    urls = [
        f"postgresql://smtpgate:geheim@127.0.0.1:{port}/nowhere",
        f"postgresql://nobody:geheim@127.0.0.1:{port}/postgres",
        f"postgresql://smtpgate@127.0.0.1:{port}/nowhere?password=geheim",
        "postgresql://smtpgate:geheim@127.0.0.1:1/postgres",
        "postgresql://smtpgate:geheim@host.invalid/postgres",
        f"postgresql://smtpgate:geheim@127.0.0.1:{port}/postgres",
    ]
    says = [
        'database "nowhere" does not exist',
        'role "nobody" does not exist',
        'database "nowhere" does not exist',
        "Connect call failed",
        "",
        'relation "audit_log" does not exist',
    ]
    for url, text in zip(urls, says, strict=True):
        database = Database(parse_url(url), DirectoryUnavailableError)
        store = DirectoryStore(
            database=database,
            master_keys=None,  # type: ignore[arg-type] # nothing is opened
            region="us-east-1",
            partition="aws",
            now=clock.now,
        )
        directory = live(store, clock)
        with pytest.raises(DirectoryUnavailableError) as refusal:
            await directory.start()
        await store.close()
        shown = str(refusal.value)
        assert text in shown
        assert "geheim" not in shown
        assert "SELECT" not in shown
        assert "asyncpg" not in shown
        assert "sqlalche" not in shown
        assert "\n" not in shown
        assert shown.startswith("postgresql://")
