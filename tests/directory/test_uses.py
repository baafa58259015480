"""When and from where access keys were last used: collected, and written now and then."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from smtpgate.core.events import Authenticated, SessionOpened
from smtpgate.directory.keys import AccessKeyRow, access_key
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.uses import KeyUses
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.events import CLIENT
from tests.support.statements import noted_statements
from tests.support.tenants import ACME, add_account, add_key, notes

KEY: Final = "AKIAACME000000000001"
OTHER: Final = "AKIAACME000000000002"


def login(key_id: str, at: datetime, address: str) -> Authenticated:
    return Authenticated(
        replace(CLIENT, address=address, access_key_id=key_id, account_id=ACME), at
    )


def collector(store: DirectoryStore) -> tuple[KeyUses, list[BaseException]]:
    errors: list[BaseException] = []
    return KeyUses(store, on_error=errors.append), errors


async def read(store: DirectoryStore, key_id: str = KEY) -> AccessKeyRow:
    async with store.reading() as connection:
        return await access_key(connection, key_id)


async def test_the_latest_use_of_each_key_is_written_at_once_for_all(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await add_account(store)
    for key_id in (KEY, OTHER):
        await add_key(store, key_id)
    uses, errors = collector(store)
    before = await notes(store)
    with noted_statements() as statements:
        for second in range(100):
            clock.move(1)
            uses.publish(login(KEY, clock.now(), f"192.0.2.{second}"))
        uses.publish(login(OTHER, clock.now(), "2001:db8::1"))
        assert not statements  # to note waits for nothing
        await uses.flush()
        assert len([one for one in statements if one.startswith("UPDATE")]) == 1
        del statements[:]
        await uses.flush()
        assert not statements
    row, other = await read(store), await read(store, OTHER)
    assert (row.last_used_at, row.last_used_from) == (clock.now(), "192.0.2.99")
    assert (other.last_used_at, other.last_used_from) == (clock.now(), "2001:db8::1")
    assert await notes(store) == before
    assert not errors


async def test_what_is_written_late_replaces_nothing_newer(
    store: DirectoryStore, clock: MovableClock
) -> None:
    """Another gate of the fleet may have written meanwhile."""
    await add_account(store)
    await add_key(store, KEY)
    late, _ = collector(store)
    late.publish(login(KEY, clock.now() - timedelta(hours=1), "192.0.2.1"))
    early, _ = collector(store)
    early.publish(login(KEY, clock.now(), "192.0.2.2"))
    await early.flush()
    await late.flush()
    assert (await read(store)).last_used_from == "192.0.2.2"


async def test_a_key_that_is_gone_is_no_error(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await add_account(store)
    await add_key(store, KEY)
    uses, errors = collector(store)
    uses.publish(login(OTHER, clock.now(), "192.0.2.1"))
    uses.publish(login(KEY, clock.now(), "192.0.2.2"))
    await uses.flush()
    assert (await read(store)).last_used_from == "192.0.2.2"
    assert not errors


async def test_what_could_not_be_written_is_written_later_with_what_came_meanwhile(
    store: DirectoryStore, clock: MovableClock, databases: Databases
) -> None:
    await add_account(store)
    for key_id in (KEY, OTHER):
        await add_key(store, key_id)
    url = store.database.url.render_as_string(hide_password=False)
    uses, errors = collector(store)
    uses.publish(login(KEY, clock.now(), "192.0.2.1"))
    uses.publish(login(OTHER, clock.now(), "192.0.2.1"))
    databases.cut_off(url)
    await uses.flush()
    clock.move(1)
    uses.publish(login(KEY, clock.now(), "192.0.2.2"))
    databases.give_back(url)
    await uses.flush()
    assert (await read(store)).last_used_from == "192.0.2.2"
    assert (await read(store, OTHER)).last_used_from == "192.0.2.1"
    assert not errors


async def test_the_end_writes_what_was_collected(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await add_account(store)
    await add_key(store, KEY)
    uses, _ = collector(store)
    running = asyncio.ensure_future(uses.run())
    uses.publish(login(KEY, clock.now(), "192.0.2.1"))
    uses.stop()
    await running
    assert (await read(store)).last_used_from == "192.0.2.1"


async def test_other_events_are_no_uses(store: DirectoryStore) -> None:
    uses, _ = collector(store)
    uses.publish(SessionOpened("starttls"))
    with noted_statements() as statements:
        await uses.flush()
    assert not statements
