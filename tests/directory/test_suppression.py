"""Suppression lists in the directory, and as the path of a message asks for them."""

import asyncio
from typing import Final

import pytest

from smtpgate.core.suppression.lists import SuppressedAddress, Suppression, SuppressionReason
from smtpgate.directory.accounts import delete_account
from smtpgate.directory.change import NotFoundError
from smtpgate.directory.configuration_sets import configuration_set, update_configuration_set
from smtpgate.directory.identities import identity, update_identity
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.suppression import (
    EVERY,
    ListFilter,
    ListKey,
    count_suppressed,
    put_addresses,
    remove_address,
    remove_addresses,
    set_reasons,
    suppressed,
    suppressed_page,
    suppression,
)
from smtpgate.ports import DirectoryUnavailableError
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, live
from tests.support.statements import noted_statements
from tests.support.suppression import LIST, suppress
from tests.support.tenants import ACME, OTHER, add_account, add_identity, add_key, notes
from tests.support.topics import add_set
from tests.support.world import REGION

KEY: Final = "AKIAACME000000000001"
JANE: Final = "jane@example.org"
JOE: Final = "joe@example.org"


@pytest.fixture(autouse=True)
async def tenants(store: DirectoryStore) -> None:
    """An account with a key and an identity, and another account."""
    await add_account(store)
    await add_account(store, OTHER)
    await add_key(store, KEY)
    await add_identity(store)


@pytest.fixture
async def directory(store: DirectoryStore, clock: MovableClock) -> LiveDirectory:
    """The directory as the path sees it; it follows when a test says so."""
    directory = live(store, clock)
    await directory.catch_up()
    return directory


async def put(
    store: DirectoryStore,
    reason: SuppressionReason,
    message_id: str = "",
    *,
    keeps_complaints: bool = False,
) -> SuppressedAddress:
    """Jane's entry after one more was put."""
    entry = SuppressedAddress(JANE, reason, store.now(), message_id)
    async with store.changing(ACTOR) as change:
        await put_addresses(change, LIST, [entry], keeps_complaints=keeps_complaints)
        return await suppressed(change.connection, LIST, JANE)


async def test_an_address_has_one_entry_which_the_last_reason_replaces(
    store: DirectoryStore,
) -> None:
    assert (await put(store, "BOUNCE", "m1")).message_id == "m1"
    assert await put(store, "COMPLAINT", "m2") == SuppressedAddress(
        JANE, "COMPLAINT", store.now(), "m2"
    )
    kept = await put(store, "BOUNCE", "m3", keeps_complaints=True)
    assert (kept.reason, kept.message_id) == ("COMPLAINT", "m2")
    assert (await put(store, "BOUNCE")).reason == "BOUNCE"


async def test_a_page_is_of_one_list_and_can_be_narrowed(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await suppress(store, "c@example.org", "a@example.org")
    await suppress(store, "z@example.org", account_id=OTHER)
    clock.move(60)
    later = clock.now()
    await suppress(store, "b@example.org", reason="COMPLAINT")

    async def listed(wanted: ListFilter = EVERY, **page: object) -> str:
        async with store.reading() as connection:
            found = await suppressed_page(connection, LIST, wanted, **page)  # type: ignore[arg-type]
        return "".join(entry.address[0] for entry in found)

    assert await listed() == "abc"
    assert await listed(after="a@example.org", limit=1) == "b"
    assert await listed(ListFilter(reason="COMPLAINT")) == "b"
    assert await listed(ListFilter(since=later)) == "b"
    assert await listed(ListFilter(until=later)) == "ac"
    async with store.reading() as connection:
        assert await count_suppressed(connection, LIST) == {"BOUNCE": 2, "COMPLAINT": 1}


async def test_the_same_address_twice_in_one_change_is_one_entry(store: DirectoryStore) -> None:
    await suppress(store, JANE, JANE)
    async with store.reading() as connection:
        assert len(await suppressed_page(connection, LIST)) == 1


async def test_the_audit_log_names_an_address_only_where_a_person_named_it(
    store: DirectoryStore,
) -> None:
    await suppress(store, JANE, JOE)
    _ = await put(store, "COMPLAINT")
    async with store.changing(ACTOR) as change:
        await remove_address(change, LIST, JANE)
        assert await remove_addresses(change, LIST, [JANE, JOE]) == 1
    found = [
        (one.kind, one.action, one.name, one.before, one.after) for one in await notes(store)
    ]
    assert found[-6:] == [
        ("list", "add", "", None, {"addresses": 2}),
        ("account", "use-list", "", {"has_suppressed": False}, {"has_suppressed": True}),
        ("list", "add", JANE, None, {"reason": "COMPLAINT"}),
        ("list", "remove", JANE, {"reason": "COMPLAINT"}, None),
        ("list", "remove", "", {"addresses": 1}, None),
        ("account", "use-list", "", {"has_suppressed": True}, {"has_suppressed": False}),
    ]


async def test_what_is_not_on_the_list_cannot_be_removed(store: DirectoryStore) -> None:
    await suppress(store, JANE, account_id=OTHER)
    with pytest.raises(NotFoundError, match=f"{JANE} is not on the suppression list of {ACME}"):
        async with store.changing(ACTOR) as change:
            await remove_address(change, LIST, JANE)
    async with store.changing(ACTOR) as change:
        assert await remove_addresses(change, LIST, [JANE]) == 0
    missing = ListKey("333333333333", REGION)
    with pytest.raises(NotFoundError, match="no account 333333333333"):
        async with store.changing(ACTOR) as change:
            await put_addresses(change, missing, [await _entry(store)])


async def _entry(store: DirectoryStore) -> SuppressedAddress:
    return SuppressedAddress(JANE, "BOUNCE", store.now())


async def test_a_deleted_account_leaves_no_list(store: DirectoryStore) -> None:
    await suppress(store, JANE, account_id=OTHER)
    async with store.changing(ACTOR) as change:
        await set_reasons(change, ListKey(OTHER, REGION), ("BOUNCE",))
        await delete_account(change, OTHER)
    async with store.reading() as connection:
        assert await suppressed_page(connection, ListKey(OTHER, REGION)) == []


# -- as the path sees it -----------------------------------------------------------------------


async def has_suppressed(directory: LiveDirectory) -> bool:
    """True if the account of the key has a list to ask."""
    await directory.catch_up()
    key = await directory.access_key(KEY)
    assert key is not None
    return key.principal.account.has_suppressed


async def test_an_account_knows_whether_its_list_has_any_address(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    assert not await has_suppressed(directory)
    await suppress(store, JANE)
    assert await has_suppressed(directory)
    async with store.changing(ACTOR) as change:
        await remove_address(change, LIST, JANE)
    assert not await has_suppressed(directory)


async def test_a_change_of_the_list_is_seen_at_once(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    await suppress(store, JANE)
    assert await directory.suppressed(ACME, [JANE, JOE]) == {JANE: "BOUNCE"}
    assert await directory.suppressed(OTHER, [JANE]) == {}
    _ = await put(store, "COMPLAINT")
    await suppress(store, JOE)
    await directory.catch_up()
    assert await directory.suppressed(ACME, [JANE, JOE]) == {JANE: "COMPLAINT", JOE: "BOUNCE"}
    async with store.changing(ACTOR) as change:
        await remove_address(change, LIST, JANE)
    await directory.catch_up()
    assert await directory.suppressed(ACME, [JANE, JOE]) == {JOE: "BOUNCE"}


async def test_messages_that_ask_together_share_a_query(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    await suppress(store, "a7@example.org")
    with noted_statements() as statements:
        found = await asyncio.gather(
            *(directory.suppressed(ACME, [f"a{at}@example.org", JANE]) for at in range(50))
        )
        asked = [one for one in statements if "suppressed_addresses" in one]
        assert len(asked) <= 2  # that of the first, and that of all the others
        assert await directory.suppressed(ACME, ["a7@example.org"]) == {
            "a7@example.org": "BOUNCE"
        }
        assert [one for one in statements if "suppressed_addresses" in one] == asked
    assert [bool(one) for one in found] == [at == 7 for at in range(50)]


async def test_an_answer_that_may_be_outdated_is_none(
    store: DirectoryStore, directory: LiveDirectory, clock: MovableClock
) -> None:
    await suppress(store, JANE)
    await directory.catch_up()
    assert await directory.suppressed(ACME, [JANE]) == {JANE: "BOUNCE"}
    clock.move(301)  # and no reading of the feed
    with pytest.raises(DirectoryUnavailableError, match="last read 301 s ago"):
        await directory.suppressed(ACME, [JANE])


async def test_settings_are_both_reasons_until_they_are_set(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    assert await directory.suppression(ACME) == Suppression(("BOUNCE", "COMPLAINT"))
    async with store.changing(ACTOR) as change:
        await set_reasons(change, LIST, ("COMPLAINT",))
    await directory.catch_up()
    assert await directory.suppression(ACME) == Suppression(("COMPLAINT",))
    assert await directory.suppression(OTHER) == Suppression(("BOUNCE", "COMPLAINT"))
    async with store.changing(ACTOR) as change:
        await set_reasons(change, LIST, ())
        await set_reasons(change, LIST, ())  # which changes nothing
        assert await suppression(change.connection, LIST) == Suppression(())
    set_notes = [one for one in await notes(store) if one.action == "set-reasons"]
    assert [one.after for one in set_notes] == [{"reasons": ["COMPLAINT"]}, {"reasons": []}]


async def test_a_configuration_set_and_an_identity_have_their_own_settings(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    await add_set(store)
    found = await directory.configuration_set(ACME, "spring")
    assert found is not None
    assert found.suppressed_reasons is None
    (before,) = await directory.identities("example.com")
    assert not before.suppresses_delegates
    async with store.changing(ACTOR) as change:
        row = await configuration_set(change.connection, ACME, REGION, "spring")
        _ = await update_configuration_set(change, row, {"suppressed_reasons": ["BOUNCE"]})
        named = await identity(change.connection, ACME, REGION, "example.com")
        _ = await update_identity(
            change, named, {"suppresses_delegates": True}, action="set-suppression"
        )
    await directory.catch_up()
    found = await directory.configuration_set(ACME, "spring")
    assert found is not None
    assert found.suppressed_reasons == ("BOUNCE",)
    (after,) = await directory.identities("example.com")
    assert after.suppresses_delegates
