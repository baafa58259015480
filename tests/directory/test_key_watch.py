"""Alarms about access keys in the directory, and the profiles of their use."""

from typing import Final

import pytest

from smtpgate.core.account import SendingLimits
from smtpgate.core.watch.profile import Observation, Profile, joined, record
from smtpgate.directory.change import NotFoundError
from smtpgate.directory.key_watch import (
    clear,
    contacts,
    decode,
    encode,
    raise_alarm,
    store_profiles,
    stored_profiles,
)
from smtpgate.directory.keys import (
    AccessKeyRow,
    WatchState,
    access_key,
    access_key_page,
    delete_access_key,
)
from smtpgate.directory.quotas import QuotaKey
from smtpgate.directory.store import DirectoryStore
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, live
from tests.support.tenants import ACME, OTHER, add_account, add_key, limit, notes, raw

KEY: Final = "AKIAACME000000000001"


@pytest.fixture
async def acme(store: DirectoryStore) -> DirectoryStore:
    """An account with a key of its root."""
    await add_account(store, contact="admin@example.com")
    await add_key(store, KEY)
    return store


async def alarm(
    store: DirectoryStore, state: WatchState, reason: str = "much mail"
) -> AccessKeyRow:
    async with store.changing(ACTOR) as change:
        return await raise_alarm(change, KEY, state, reason, 0.1)


async def test_an_alarm_becomes_graver_and_never_milder(
    acme: DirectoryStore, clock: MovableClock
) -> None:
    first = await alarm(acme, "reported")
    since = first.watch_since
    clock.move(60)
    slowed = await alarm(acme, "slowed", "more mail")
    assert (slowed.watch_state, slowed.slowed_to_per_s) == ("slowed", 0.1)
    assert (slowed.watch_reason, slowed.watch_since) == ("more mail", since)
    assert (await alarm(acme, "suspended")).watch_state == "suspended"
    kept = await alarm(acme, "reported", "again")
    assert (kept.watch_state, kept.watch_reason) == ("suspended", "again")
    entries = [one for one in await notes(acme) if one.action == "alarm"]
    assert [one.after["watch"] for one in entries] == [
        "reported",
        "slowed",
        "suspended",
        "suspended",
    ]


@pytest.mark.parametrize("clearing", ["confirmed", "resumed"])
async def test_a_cleared_key_is_as_before(acme: DirectoryStore, clearing: str) -> None:
    await alarm(acme, "suspended")
    async with acme.reading() as connection:
        (row,) = await access_key_page(connection, is_watched=True)
    assert row.id == KEY
    async with acme.changing(ACTOR) as change:
        await clear(change, KEY, clearing)  # type: ignore[arg-type]
    async with acme.reading() as connection:
        row = await access_key(connection, KEY)
        assert await access_key_page(connection, is_watched=True) == []
    assert (row.watch_state, row.watch_reason, row.slowed_to_per_s) == (None, None, None)
    assert row.cleared_at == acme.now()
    entry = (await notes(acme))[-1]
    assert (entry.action, entry.before["watch"]) == (clearing, "suspended")


async def test_a_confirmation_without_an_alarm_is_noted_too(acme: DirectoryStore) -> None:
    async with acme.changing(ACTOR) as change:
        await clear(change, KEY, "confirmed")
    assert (await notes(acme))[-1].action == "confirmed"


async def test_no_alarm_is_raised_about_a_key_that_does_not_exist(
    store: DirectoryStore,
) -> None:
    with pytest.raises(NotFoundError):
        await alarm(store, "reported")


async def test_senders_see_a_suspension_and_a_slow_rate_at_once(acme: DirectoryStore) -> None:
    directory = live(acme)
    await directory.start()
    try:
        await limit(acme, QuotaKey.of_key(ACME, KEY), max_24h_send=500)
        await alarm(acme, "slowed")
        await directory.catch_up()
        key = await directory.access_key(KEY)
        assert key is not None
        assert (key.limits, key.is_suspended) == (SendingLimits(500, 0.1), False)
        await alarm(acme, "suspended")
        await directory.catch_up()
        key = await directory.access_key(KEY)
        assert key is not None
        assert (key.limits, key.is_suspended) == (SendingLimits(500, -1), True)
        assert key.refusal("192.0.2.7", acme.now()) == "access-key-suspended"
        async with acme.changing(ACTOR) as change:
            await clear(change, KEY, "resumed")
        await directory.catch_up()
        key = await directory.access_key(KEY)
        assert key is not None
        assert (key.limits, key.is_suspended) == (SendingLimits(500, -1), False)
    finally:
        await directory.stop()


async def test_a_key_without_limits_of_its_own_is_slowed_down_too(acme: DirectoryStore) -> None:
    directory = live(acme)
    await directory.start()
    try:
        await alarm(acme, "slowed")
        await directory.catch_up()
        key = await directory.access_key(KEY)
        assert key is not None
        assert key.limits == SendingLimits(-1, 0.1)
    finally:
        await directory.stop()


async def test_contacts_are_those_of_accounts_that_have_one(acme: DirectoryStore) -> None:
    await add_account(acme, OTHER)
    async with acme.reading() as connection:
        assert await contacts(connection, [ACME, OTHER]) == {ACME: "admin@example.com"}


# -- profiles --------------------------------------------------------------------------------


def profile(network: str) -> Profile:
    seen = Observation(hour=500_000, network=network, messages=1, recipients=2)
    return record(None, seen, 7)


async def test_profiles_of_two_gates_are_joined(acme: DirectoryStore) -> None:
    one, other = profile("192.0.2.0/24"), profile("198.51.100.0/24")
    for its in (one, other):
        async with acme.database.changing() as connection:
            stored = await store_profiles(connection, {KEY: its, "AKIAGONE": its}, acme.now())
        assert set(stored) == {KEY}
    async with acme.reading() as connection:
        found = await stored_profiles(connection, [KEY])
    assert found[KEY].profile == joined(one, other)
    assert not [one for one in await notes(acme) if one.action != "create"]


async def test_a_profile_that_cannot_be_read_is_none(acme: DirectoryStore) -> None:
    assert decode(b"\xc1") is None
    assert decode(b"\x93\x01\x02\xa1x") is None
    its = profile("192.0.2.0/24")
    assert decode(encode(its)) == its
    async with acme.database.changing() as connection:
        await store_profiles(connection, {KEY: its}, acme.now())
    await raw(acme, "UPDATE key_profiles SET profile = :it", it=b"\xc1")
    async with acme.database.changing() as connection:
        stored = await store_profiles(connection, {KEY: its}, acme.now())
    assert stored[KEY].profile == its


async def test_a_key_is_deleted_with_its_profile(acme: DirectoryStore) -> None:
    async with acme.database.changing() as connection:
        await store_profiles(connection, {KEY: profile("192.0.2.0/24")}, acme.now())
    async with acme.changing(ACTOR) as change:
        await delete_access_key(change, KEY)
    assert await raw(acme, "SELECT * FROM key_profiles") == []
