"""Reputations of senders, and the settings of owners: written, noted, read, dropped."""

import asyncio
from collections import Counter
from typing import Any, Final

import pytest
from msgspec import structs

from smtpgate.core.reputation.judgement import Reputation
from smtpgate.core.reputation.sender import RatedSender, RatingSettings
from smtpgate.directory import reputations as module
from smtpgate.directory.accounts import delete_account
from smtpgate.directory.change import RefusedChangeError
from smtpgate.directory.configuration_sets import configuration_set, delete_configuration_set
from smtpgate.directory.identities import delete_identity, identity
from smtpgate.directory.rated_senders import DirectoryReputations
from smtpgate.directory.reputations import (
    all_rating_settings,
    paused_delegates,
    put_rating_settings,
    rating_settings,
    reputation,
    reputations_of,
)
from smtpgate.directory.store import DirectoryStore
from smtpgate.sql.steps import STEP
from tests.support.directory import ACTOR
from tests.support.reputations import (
    DELEGATE,
    RATE,
    pause,
    pause_many,
    paused,
    put,
    rate,
    resume,
)
from tests.support.tenants import ACME, OTHER, add_account, add_identity, notes, raw
from tests.support.topics import add_set
from tests.support.world import REGION

ACCOUNT: Final = RatedSender.account(OTHER)
SET: Final = RatedSender.with_set(ACME, "spring")
SENDERS: Final = (ACCOUNT, DELEGATE, SET)


@pytest.fixture(autouse=True)
async def tenants(store: DirectoryStore) -> None:
    """Two accounts, one with an identity and a configuration set."""
    await add_account(store)
    await add_account(store, OTHER)
    await add_identity(store)
    await add_set(store)


async def read(store: DirectoryStore, sender: RatedSender) -> Reputation:
    async with store.reading() as connection:
        return await reputation(connection, REGION, sender)


async def listed(
    store: DirectoryStore,
    account_id: str | None = None,
    *,
    only_troubled: bool = False,
    after: RatedSender | None = None,
    limit: int | None = None,
) -> list[RatedSender]:
    async with store.reading() as connection:
        found = await reputations_of(
            connection,
            REGION,
            account_id=account_id,
            only_troubled=only_troubled,
            after=after,
            limit=limit,
        )
    return [one.sender for one in found]


@pytest.mark.parametrize("sender", SENDERS, ids=lambda sender: sender.kind)
async def test_a_reputation_is_read_back_as_it_was_written(
    store: DirectoryStore, sender: RatedSender
) -> None:
    assert await read(store, sender) == Reputation(sender=sender)
    await pause(store, sender)
    assert await read(store, sender) == paused(sender)
    await resume(store, sender)
    assert await read(store, sender) == structs.replace(paused(sender), pause=None)
    # Neither another sender's nor another region's.
    (row,) = await raw(store, "SELECT region FROM reputations")
    assert row.region == REGION


@pytest.mark.parametrize(
    ("sender", "subject", "first"),
    [
        (ACCOUNT, ("account", OTHER, ""), {}),
        (SET, ("set", ACME, "spring"), {}),
        (DELEGATE, ("identity", ACME, "example.com"), {"delegate": OTHER}),
    ],
)
async def test_a_change_is_noted_with_the_object_whose_answers_have_the_pause(
    store: DirectoryStore,
    sender: RatedSender,
    subject: tuple[str, str, str],
    first: dict[str, str],
) -> None:
    await pause(store, sender)
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.account_id, note.name) == ("judge", *subject)
    healthy = {"status": "HEALTHY", "bounce": "healthy", "complaint": "healthy"}
    assert note.before == first | healthy
    assert note.after == first | {
        "status": "SHUTDOWN",
        "bounce": "pause",
        "complaint": "healthy",
        "bounce_rate": 0.1234,
        "complaint_rate": 0.0005,
        "paused_by": "gate",
        "paused_reason": RATE,
    }
    await pause(store, sender)
    assert (await notes(store))[-1] == note


async def test_a_pause_s_reason_is_one_line(store: DirectoryStore) -> None:
    made = paused(ACCOUNT)
    assert made.pause is not None
    bad = structs.replace(made, pause=structs.replace(made.pause, reason="a\nb"))
    async with store.changing(ACTOR) as change:
        with pytest.raises(RefusedChangeError, match=f"account {OTHER}: .*line ends"):
            await put(change, bad)
    assert await read(store, ACCOUNT) == Reputation(sender=ACCOUNT)


async def test_reputations_are_listed_in_order_and_by_account(store: DirectoryStore) -> None:
    for sender in SENDERS:
        await pause(store, sender)
    healthy = RatedSender.account(ACME)
    async with store.changing(ACTOR) as change:
        fresh = Reputation(sender=healthy, changed_at=paused(healthy).changed_at)
        await put(change, structs.replace(fresh, fresh_start_at=fresh.changed_at))
    assert await listed(store) == [healthy, *SENDERS]
    assert await listed(store, only_troubled=True) == list(SENDERS)
    assert await listed(store, limit=2) == [healthy, ACCOUNT]
    assert await listed(store, after=ACCOUNT) == [DELEGATE, SET]
    # Its own, and those of delegates on its identities.
    assert await listed(store, ACME) == [healthy, DELEGATE, SET]
    assert await listed(store, OTHER) == [ACCOUNT, DELEGATE]


async def test_the_paused_delegates_of_an_identity_are_found_by_its_owner(
    store: DirectoryStore,
) -> None:
    await pause(store, DELEGATE, "owner")
    await pause(store, RatedSender.delegate(OTHER, ACME, "other.example"))
    await resume(store, RatedSender.delegate(ACME, OTHER, "example.com"))
    async with store.reading() as connection:
        found = await paused_delegates(connection, REGION, "example.com", [ACME, OTHER])
        assert found == {ACME: {OTHER: RATE}}
        assert await paused_delegates(connection, REGION, "example.com", [OTHER]) == {}
        assert await paused_delegates(connection, "eu-west-1", "example.com", [ACME]) == {}
        one = await reputations_of(connection, REGION, owner_id=ACME, identity="example.com")
    assert [row.sender for row in one] == [DELEGATE]


async def test_settings_are_written_changed_and_taken_away(store: DirectoryStore) -> None:
    async def now() -> RatingSettings | None:
        async with store.reading() as connection:
            return await rating_settings(connection, REGION, "set", ACME, "spring")

    assert await now() is None
    await rate(store, "set", "spring")
    assert await now() == RatingSettings("set", ACME, "spring")
    await rate(store, "set", "spring", auto_pause=True)
    await rate(store)
    async with store.reading() as connection:
        assert await all_rating_settings(connection, REGION) == [
            RatingSettings("identity", ACME, "example.com"),
            RatingSettings("set", ACME, "spring", auto_pause=True),
        ]
        assert await all_rating_settings(connection, "eu-west-1") == []
    async with store.changing(ACTOR) as change:
        await put_rating_settings(change, REGION, await now(), None)
    assert await now() is None
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.name) == ("rate", "set", "spring")
    assert note.before == {"is_rated": True, "auto_pause": True}
    assert note.after == {"is_rated": False}


async def test_what_is_deleted_leaves_nothing_but_an_owner_s_pause(
    store: DirectoryStore,
) -> None:
    for sender in SENDERS:
        await pause(store, sender, "owner")
    await rate(store)
    await rate(store, "set", "spring")
    async with store.changing(ACTOR) as change:
        await delete_account(change, OTHER)
    assert await listed(store) == [DELEGATE, SET]
    async with store.changing(ACTOR) as change:
        found = await configuration_set(change.connection, ACME, REGION, "spring")
        await delete_configuration_set(change, found)
    assert await listed(store) == [DELEGATE]
    async with store.changing(ACTOR) as change:
        its = await identity(change.connection, ACME, REGION, "example.com")
        await delete_identity(change, its, store.partition)
    assert await listed(store) == []
    assert await raw(store, "SELECT * FROM reputation_settings") == []


@pytest.mark.slow
async def test_many_are_read_in_steps_with_turns_of_the_event_loop_between_them(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [f"{10**11 + number}" for number in range(2 * STEP + 50)]
    await pause_many(store, accounts)
    made: Counter[int] = Counter()
    turn, make = 0, module._reputation

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def noting(row: Any) -> Reputation:  # noqa: ANN401 - a row of a query
        made[turn] += 1
        return make(row)

    monkeypatch.setattr(module, "_reputation", noting)
    counting = asyncio.create_task(count_turns())
    found = await DirectoryReputations(store, ACTOR).troubled()
    counting.cancel()
    assert [one.sender.account_id for one in found] == sorted([*accounts, OTHER])
    assert max(made.values()) <= STEP
