"""The directory that the path asks: from memory, as new as the last reading of the feed."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from smtpgate.core.account import UNLIMITED, SendingLimits, TemporaryLimits
from smtpgate.core.events import DirectoryChanged
from smtpgate.core.identity import Identity
from smtpgate.core.reputation.sender import RatedSender
from smtpgate.directory.accounts import update_account
from smtpgate.directory.change import Change
from smtpgate.directory.dkim import dkim_key, update_dkim_key
from smtpgate.directory.identities import (
    IdentityRow,
    add_identities,
    delete_identity,
    identity,
    update_identity,
)
from smtpgate.directory.keys import delete_access_key, update_access_key
from smtpgate.directory.live import LiveDirectory, LiveSettings
from smtpgate.directory.load import IdentityRows, Loader
from smtpgate.directory.policies import PolicyOwner, delete_policy, put_policy
from smtpgate.directory.quotas import QuotaKey, set_quota
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import delete_user, update_user
from smtpgate.ports import DirectoryUnavailableError, Validity
from tests.support.clock import MovableClock, move_loop
from tests.support.databases import Databases
from tests.support.directory import ACTOR, live
from tests.support.journal import Received
from tests.support.reputations import DELEGATE, RATE, paused, put
from tests.support.statements import noted_statements
from tests.support.tenants import (
    ACME,
    OTHER,
    add_account,
    add_identity,
    add_key,
    add_user,
    identity_place,
    raw,
    sender_policy,
    signing_key,
)
from tests.support.waiting import until
from tests.support.world import REGION

KEY: Final = "AKIAACME000000000001"
OTHER_KEY: Final = "AKIAOTHER00000000001"
GRANT: Final = QuotaKey.of_grant(ACME, REGION, "example.com", OTHER)
UNTIL: Final = datetime(2026, 11, 24, tzinfo=UTC)
RAISE: Final = {"raised_24h_send": 1000, "raised_until": UNTIL}


@pytest.fixture
async def directory(store: DirectoryStore, clock: MovableClock) -> LiveDirectory:
    """Two accounts, each with a user, its key and a domain; it follows when a test says so."""
    for account_id, key_id, domain in (
        (ACME, KEY, "example.com"),
        (OTHER, OTHER_KEY, "other.example"),
    ):
        await add_account(store, account_id)
        await add_user(store, account_id=account_id)
        await add_key(store, key_id, account_id, user_name="mailer")
        await add_identity(store, domain, account_id)
    directory = live(store, clock)
    await directory.catch_up()
    return directory


async def ask_all(directory: LiveDirectory) -> None:
    """The look-ups of a message, of both accounts."""
    for key_id, domain in ((KEY, "example.com"), (OTHER_KEY, "other.example")):
        assert await directory.access_key(key_id) is not None
        for name in (f"news+1@{domain}", f"news@{domain}", domain):
            _ = await directory.identities(name)


async def test_a_warm_answer_makes_no_query(directory: LiveDirectory) -> None:
    await ask_all(directory)
    hits = directory.cache.hits
    with noted_statements() as statements:
        await ask_all(directory)
    assert not statements
    assert directory.cache.hits > hits


async def test_new_labels_make_no_query_once_the_domain_is_known(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    await add_identity(store, "ceo@example.com")
    await ask_all(directory)
    (ceo,) = await directory.identities("ceo@example.com")
    with noted_statements() as statements:
        for number in range(500):
            assert not await directory.identities(f"news+{number}@example.com")
            assert not await directory.identities(f"{number}@other.example")
        assert await directory.identities("ceo@example.com") == (ceo,)
    assert not statements
    assert len(directory.cache) < 20


@pytest.mark.slow
async def test_a_domain_with_very_many_addresses_is_asked_for_each(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    rows = [
        IdentityRow(
            account_id=ACME, region=REGION, name=f"{number}@example.com", state="success"
        )
        for number in range(1001)
    ]
    async with store.changing(ACTOR) as change:
        await add_identities(change, rows)
    await directory.catch_up()
    for number in (0, 1000):
        (found,) = await directory.identities(f"{number}@example.com")
        assert found.is_verified
    assert not await directory.identities("1001@example.com")
    with noted_statements() as statements:
        assert not await directory.identities("1001@example.com")
        assert await directory.identities("1000@example.com")
    assert not statements


async def test_of_many_that_ask_for_the_same_one_asks_the_database(
    directory: LiveDirectory,
) -> None:
    with noted_statements() as statements:
        one = asyncio.gather(*(directory.identities("example.com") for _ in range(50)))
        other = asyncio.gather(*(directory.access_key(KEY) for _ in range(50)))
        answers = {id(answer) for answer in (*await one, *await other)}
    assert len(answers) == 2
    tables = [
        part.split()[0] for statement in statements for part in statement.split("FROM ")[1:]
    ]
    assert sorted(tables) == [
        "access_keys",
        "dkim_keys",
        "identities",
        "policies",
        "policies",
        *["quotas"] * 4,
        "reputations",
        "suppression_settings",
    ]


# -- changes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A change, and what an answer says before and after it."""

    note: str
    change: Callable[[Change, DirectoryStore], Awaitable[object]]
    ask: Callable[[LiveDirectory], Awaitable[object]]
    before: object
    after: object


async def _identity(change: Change, name: str = "example.com") -> IdentityRow:
    return await identity(change.connection, ACME, REGION, name)


async def _update(change: Change, changes: dict[str, object]) -> None:
    await update_identity(change, await _identity(change), changes, action="change")


async def _delete(change: Change, store: DirectoryStore) -> None:
    await delete_identity(change, await _identity(change), store.partition)


async def _verified(directory: LiveDirectory, name: str = "example.com") -> list[bool]:
    return [found.is_verified for found in await directory.identities(name)]


async def _names(directory: LiveDirectory) -> list[str]:
    (found,) = await directory.identities("example.com")
    return [policy.name for policy in found.policies]


async def _selectors(directory: LiveDirectory) -> list[str]:
    (found,) = await directory.identities("example.com")
    return [key.selector for key in found.dkim_keys]


async def _pause(directory: LiveDirectory) -> str | None:
    (found,) = await directory.identities("example.com")
    return found.paused_reason


async def _caps(directory: LiveDirectory) -> dict[str, SendingLimits]:
    (found,) = await directory.identities("example.com")
    return dict(found.caps)


async def _paused_delegates(directory: LiveDirectory) -> dict[str, str]:
    (found,) = await directory.identities("example.com")
    return dict(found.paused_delegates)


async def _of_key(directory: LiveDirectory, what: Callable[[Any], object]) -> object:
    key = await directory.access_key(KEY)
    return None if key is None else what(key)


CASES: Final = [
    Case(
        "an account is paused",
        lambda change, _: update_account(change, ACME, {"paused_reason": "abuse"}),
        lambda directory: _of_key(directory, lambda key: key.principal.account.paused_reason),
        None,
        "abuse",
    ),
    Case(
        "an account is paused for its rates",
        lambda change, _: put(change, paused(RatedSender.account(ACME))),
        lambda directory: _of_key(directory, lambda key: key.principal.account.shutdown_reason),
        None,
        RATE,
    ),
    Case(
        "an account turns its sending off",
        lambda change, _: update_account(change, ACME, {"is_sending": False}),
        lambda directory: _of_key(directory, lambda key: key.principal.account.is_sending),
        True,
        False,
    ),
    Case(
        "an account is under review",
        lambda change, _: put(
            change, structs.replace(paused(RatedSender.account(ACME)), pause=None)
        ),
        lambda directory: _of_key(directory, lambda key: key.principal.account.shutdown_reason),
        None,
        None,
    ),
    Case(
        "a delegate of an identity is paused",
        lambda change, _: put(change, paused(DELEGATE)),
        _paused_delegates,
        {},
        {OTHER: RATE},
    ),
    Case(
        "an account's limits change",
        lambda change, _: update_account(change, ACME, {"max_24h_send": 5}),
        lambda directory: _of_key(directory, lambda key: key.principal.account.limits),
        SendingLimits(200, 1),
        SendingLimits(5, 1),
    ),
    Case(
        "an account's limits are raised",
        lambda change, _: set_quota(change, QuotaKey.of_account(ACME), RAISE),
        lambda directory: _of_key(directory, lambda key: key.principal.account.limits),
        SendingLimits(200, 1),
        SendingLimits(200, 1, TemporaryLimits(1000, None, UNTIL)),
    ),
    Case(
        "a user is limited",
        lambda change, _: set_quota(
            change, QuotaKey.of_user(ACME, "Mailer"), {"max_24h_send": 5}
        ),
        lambda directory: _of_key(directory, lambda key: key.principal.limits),
        None,
        SendingLimits(5, UNLIMITED),
    ),
    Case(
        "a key is limited",
        lambda change, _: set_quota(
            change, QuotaKey.of_key(ACME, KEY), {"max_send_rate_per_s": 0.5}
        ),
        lambda directory: _of_key(directory, lambda key: key.limits),
        None,
        SendingLimits(UNLIMITED, 0.5),
    ),
    Case(
        "an account is capped by an identity's owner",
        lambda change, _: set_quota(change, GRANT, {"max_24h_send": 7, **RAISE}),
        _caps,
        {},
        {OTHER: SendingLimits(7, UNLIMITED, TemporaryLimits(1000, None, UNTIL))},
    ),
    Case(
        "a user gets a tag",
        lambda change, _: update_user(change, ACME, "mailer", {"tags": {"team": "a"}}),
        lambda directory: _of_key(directory, lambda key: key.principal.tags),
        (),
        (("team", "a"),),
    ),
    Case(
        "a user loses its policy",
        lambda change, _: delete_policy(
            change, PolicyOwner.of_user(ACME, "mailer"), "may-send"
        ),
        lambda directory: _of_key(directory, lambda key: len(key.principal.policies)),
        1,
        0,
    ),
    Case(
        "a key is disabled",
        lambda change, _: update_access_key(change, KEY, {"is_active": False}),
        lambda directory: _of_key(directory, lambda key: key.is_active),
        True,
        False,
    ),
    Case(
        "a key is deleted",
        lambda change, _: delete_access_key(change, KEY),
        lambda directory: _of_key(directory, lambda key: key.id),
        KEY,
        None,
    ),
    Case(
        "a user is deleted",
        lambda change, _: delete_user(change, ACME, "mailer"),
        lambda directory: _of_key(directory, lambda key: key.id),
        KEY,
        None,
    ),
    Case(
        "an identity fails",
        lambda change, _: _update(change, {"state": "failed"}),
        _verified,
        [True],
        [False],
    ),
    Case(
        "an identity is paused",
        lambda change, _: _update(change, {"paused_reason": "abuse"}),
        _pause,
        None,
        "abuse",
    ),
    Case(
        "an identity gets a policy",
        lambda change, _: put_policy(change, identity_place(), "send", sender_policy()),
        _names,
        [],
        ["send"],
    ),
    Case(
        "an identity is deleted",
        _delete,
        _verified,
        [True],
        [],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.note for case in CASES])
async def test_a_change_is_seen_after_the_next_reading_of_the_feed(
    store: DirectoryStore, directory: LiveDirectory, case: Case
) -> None:
    assert await case.ask(directory) == case.before
    async with store.changing(ACTOR) as change:
        await case.change(change, store)
    # Nothing that is kept is asked for again ...
    assert await case.ask(directory) == case.before
    await directory.catch_up()
    # ... until the change is known.
    assert await case.ask(directory) == case.after


SECOND_KEY, ROOT_KEY = "AKIAACME000000000002", "AKIAACME000000000000"
KEYS_OF_ACME: Final = {KEY, SECOND_KEY, ROOT_KEY}
# Rows of the account itself are read again after a change; of the other account, none are.
ASKED_AGAIN: Final[dict[str, tuple[Callable[[Change], Awaitable[object]], set[str]]]] = {
    "a user gets a tag": (
        lambda change: update_user(change, ACME, "mailer", {"tags": {"team": "a"}}),
        {KEY},
    ),
    "a user is limited": (
        lambda change: set_quota(change, QuotaKey.of_user(ACME, "MAILER"), {"max_24h_send": 5}),
        {KEY},
    ),
    "a user loses its policy": (
        lambda change: delete_policy(change, PolicyOwner.of_user(ACME, "mailer"), "may-send"),
        {KEY},
    ),
    "a key is disabled": (
        lambda change: update_access_key(change, SECOND_KEY, {"is_active": False}),
        {SECOND_KEY},
    ),
    "an account is paused": (
        lambda change: update_account(change, ACME, {"paused_reason": "abuse"}),
        KEYS_OF_ACME,
    ),
    "an identity is paused": (
        lambda change: _update(change, {"paused_reason": "abuse"}),
        {"example.com"},
    ),
    "an identity gets a policy": (
        lambda change: put_policy(change, identity_place(), "send", sender_policy()),
        {"example.com"},
    ),
}


async def add_keys_of_acme(store: DirectoryStore) -> None:
    await add_user(store, "second")
    await add_key(store, SECOND_KEY, user_name="second")
    await add_key(store, ROOT_KEY)


@pytest.mark.parametrize("what", ASKED_AGAIN)
async def test_a_change_drops_nothing_but_what_depends_on_it(
    store: DirectoryStore, directory: LiveDirectory, what: str
) -> None:
    await add_keys_of_acme(store)
    await add_identity(store, "example.net")
    await directory.catch_up()
    keys = (*sorted(KEYS_OF_ACME), OTHER_KEY)
    names = ("example.com", "example.net", "other.example")

    async def asked() -> set[str]:
        """The time that a query takes."""
        found = set()
        for question, subjects in ((directory.access_key, keys), (directory.identities, names)):
            for subject in subjects:
                with noted_statements() as statements:
                    assert await question(subject)
                if statements:
                    found.add(subject)
        return found

    await asked()
    assert not await asked()
    change_it, expected = ASKED_AGAIN[what]
    async with store.changing(ACTOR) as change:
        await change_it(change)
    await directory.catch_up()
    assert await asked() == expected


# -- answers that are valid for a while --------------------------------------------------------


async def _validity(
    directory: LiveDirectory, key_id: str = KEY, names: Sequence[str] = ("example.com",)
) -> Validity | None:
    key = await directory.access_key(key_id)
    assert key is not None
    found = {name: await directory.identities(name) for name in names}
    return directory.validity_of(key, found)


OF_ACME: Final = (
    "example.com",
    "ceo@example.com",
    "absent.example",
    "ceo@absent.example",
)


@pytest.mark.parametrize("what", ASKED_AGAIN)
async def test_answers_are_valid_until_one_of_them_changes(
    store: DirectoryStore, directory: LiveDirectory, what: str
) -> None:
    await add_keys_of_acme(store)
    await directory.catch_up()
    change_it, expected = ASKED_AGAIN[what]
    key_id = next(iter(sorted(expected & KEYS_OF_ACME)), KEY)
    validity = await _validity(directory, key_id, OF_ACME)
    assert validity is not None
    await directory.catch_up()
    assert directory.is_valid(validity)
    async with store.changing(ACTOR) as change:
        await change_it(change)
    assert directory.is_valid(validity)
    await directory.catch_up()
    assert not directory.is_valid(validity)


@pytest.mark.parametrize("name", ["new.example", "ceo@example.com", "ceo@new.example"])
async def test_answers_are_valid_until_what_was_absent_is_there(
    store: DirectoryStore, directory: LiveDirectory, name: str
) -> None:
    validity = await _validity(directory, names=[name])
    assert validity is not None
    await add_identity(store, name)
    assert directory.is_valid(validity)
    await directory.catch_up()
    assert not directory.is_valid(validity)


async def test_new_answers_end_no_validity(directory: LiveDirectory) -> None:
    validity = await _validity(directory, names=OF_ACME)
    assert validity is not None
    assert await directory.identities("other.example")
    assert not await directory.identities("ceo@other.example")
    assert await directory.access_key(OTHER_KEY)
    assert directory.is_valid(validity)


async def test_an_answer_that_lapses_ends_its_validity_and_no_other(
    directory: LiveDirectory, clock: MovableClock
) -> None:
    there, absent, addresses = [
        await _validity(directory, names=names)
        for names in (["example.com"], ["absent.example"], ["ceo@example.com"])
    ]
    assert there is not None
    assert absent is not None
    assert addresses is not None
    clock.move(59)
    assert all(map(directory.is_valid, (there, absent, addresses)))
    clock.move(1)
    for lapsed in (absent, addresses):
        assert not directory.is_valid(lapsed)
    again = await _validity(directory, names=["absent.example", "ceo@example.com"])
    assert again is not None
    assert directory.is_valid(again)
    assert directory.is_valid(there)
    assert not directory.is_valid(absent)


async def test_answers_that_make_room_end_their_validity(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    brief = live(store, clock, LiveSettings(max_absent=2))
    await brief.catch_up()
    validity = await _validity(brief, names=["n0.example"])
    assert validity is not None
    assert not await brief.identities("n1.example")
    assert brief.is_valid(validity)
    assert not await brief.identities("n2.example")
    assert not brief.is_valid(validity)
    _ = await _validity(directory)
    small = live(store, clock, LiveSettings(max_octets=directory.cache.octets))
    await small.catch_up()
    validity = await _validity(small)
    assert validity is not None
    assert small.is_valid(validity)
    assert await small.access_key(OTHER_KEY)
    assert await small.identities("other.example")
    assert not small.is_valid(validity)


async def test_answers_of_another_loader_are_other_answers(directory: LiveDirectory) -> None:
    validity = await _validity(directory)
    assert validity is not None
    directory.use(directory.loader)
    assert not directory.is_valid(validity)


async def test_no_answers_are_valid_once_the_directory_is_too_old(
    directory: LiveDirectory, clock: MovableClock
) -> None:
    validity = await _validity(directory)
    assert validity is not None
    clock.move(300)
    assert directory.is_valid(validity)
    clock.move(1)
    assert not directory.is_valid(validity)
    await directory.catch_up()
    assert directory.is_valid(validity)


async def test_only_answers_in_memory_have_a_validity(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    key = await directory.access_key(KEY)
    assert key is not None
    found = await directory.identities("example.com")
    absent = await directory.identities("ceo@example.com")
    assert directory.validity_of(key, {"example.com": found, "ceo@example.com": absent})
    assert directory.validity_of(key, {"example.com": list(found)}) is None
    assert directory.validity_of(key, {"ceo@example.com": found}) is None
    assert directory.validity_of(key, {"unknown.example": ()}) is None
    assert directory.validity_of(structs.replace(key), {"example.com": found}) is None
    nothing = live(store, clock)
    await nothing.catch_up()
    assert nothing.validity_of(key, {}) is None


async def test_answers_that_are_still_valid_count_as_given(directory: LiveDirectory) -> None:
    validity = await _validity(directory, names=OF_ACME)
    assert validity is not None
    before = directory.cache.hits
    again = await _validity(directory, names=OF_ACME)
    asked = directory.cache.hits - before
    assert again == validity
    assert directory.is_valid(validity)
    assert directory.cache.hits - before == 2 * asked
    assert not directory.is_valid(validity._replace(until_s=0.0))
    assert directory.cache.hits - before == 2 * asked


async def test_what_was_not_there_is_seen_after_the_next_reading_of_the_feed(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    new_key = "AKIAACME000000000002"
    names = ("new.example", "ceo@example.com", "ceo@new.example")
    assert await directory.access_key(new_key) is None
    for name in names:
        assert await _verified(directory, name) == []
    await add_key(store, new_key)
    for name in names:
        await add_identity(store, name)
        assert await _verified(directory, name) == []
    await directory.catch_up()
    assert await directory.access_key(new_key) is not None
    for name in names:
        assert await _verified(directory, name) == [True]


async def test_a_dkim_key_signs_after_the_next_reading_of_the_feed(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    await signing_key(store, stage="pending")
    await directory.catch_up()
    assert await _selectors(directory) == []
    async with store.changing(ACTOR) as change:
        row = await dkim_key(change.connection, ACME, REGION, "example.com", "one")
        await update_dkim_key(change, row, {"stage": "active"}, action="activate")
    await directory.catch_up()
    assert await _selectors(directory) == ["one"]


async def test_a_change_of_one_account_costs_others_nothing(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    await ask_all(directory)
    async with store.changing(ACTOR) as change:
        await update_account(change, ACME, {"paused_reason": "abuse"})
    await directory.catch_up()
    with noted_statements() as statements:
        assert await directory.access_key(OTHER_KEY) is not None
        assert await directory.identities("other.example")
        assert not statements
        await directory.access_key(KEY)
        assert statements


async def test_a_reading_without_a_change_drops_nothing(directory: LiveDirectory) -> None:
    await ask_all(directory)
    await directory.catch_up()
    with noted_statements() as statements:
        await ask_all(directory)
    assert not statements


# -- what is read while something changes ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledLoader(Loader):
    """Reads as the loader does, and then waits before anything is made of it."""

    has_read: asyncio.Semaphore
    may_go_on: asyncio.Event

    async def read_identities(self, connection: AsyncConnection, name: str) -> IdentityRows:
        rows = await Loader.read_identities(self, connection, name)
        self.has_read.release()
        await self.may_go_on.wait()
        return rows


async def stalled(
    store: DirectoryStore, clock: MovableClock, load_s: float = 5
) -> tuple[LiveDirectory, StalledLoader]:
    """A directory that has every commit so far, and delays each question."""
    loader = StalledLoader(
        region=store.region,
        partition=store.partition,
        default_limits=SendingLimits(200, 1),
        address_tag_idiom=False,
        master_keys=store.master_keys,
        has_read=asyncio.Semaphore(0),
        may_go_on=asyncio.Event(),
    )
    settings = LiveSettings(load_s=load_s)
    directory = LiveDirectory(store, loader, settings=settings, clock=clock)
    await directory.catch_up()
    return directory, loader


async def asking(
    directory: LiveDirectory, loader: StalledLoader, name: str = "example.com"
) -> asyncio.Future[Sequence[Identity]]:
    """A question whose answer was read, and is not given yet."""
    asked = asyncio.ensure_future(directory.identities(name))
    await loader.has_read.acquire()
    return asked


async def test_what_was_read_before_a_change_is_not_kept_after_it(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    slow, loader = await stalled(store, clock)
    before = await asking(slow, loader)
    async with store.changing(ACTOR) as change:
        await _update(change, {"state": "failed"})
    await slow.catch_up()
    # A later look-up does not share the answer of an earlier one.
    after = await asking(slow, loader)
    loader.may_go_on.set()
    assert [found.is_verified for found in await before] == [True]
    assert [found.is_verified for found in await after] == [False]
    assert await _verified(slow) == [False]


async def test_what_is_kept_before_the_change_is_read_is_dropped_by_it(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    slow, loader = await stalled(store, clock)
    asked = await asking(slow, loader)
    async with store.changing(ACTOR) as change:
        await _update(change, {"state": "failed"})
    loader.may_go_on.set()
    assert [found.is_verified for found in await asked] == [True]
    await slow.catch_up()
    assert await _verified(slow) == [False]


async def test_an_absence_that_was_read_before_a_change_is_not_kept_after_it(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    slow, loader = await stalled(store, clock)
    asked = await asking(slow, loader, "new.example")
    await add_identity(store, "new.example")
    await slow.catch_up()
    loader.may_go_on.set()
    assert await asked == ()
    assert await _verified(slow, "new.example") == [True]


async def test_who_stops_waiting_stops_nobody_else(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    slow, loader = await stalled(store, clock)
    one, other = [asyncio.ensure_future(slow.identities("example.com")) for _ in range(2)]
    await loader.has_read.acquire()
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    loader.may_go_on.set()
    assert len(await other) == 1
    with noted_statements() as statements:
        assert await slow.identities("example.com")
    assert not statements


async def test_a_waiter_at_the_end_gets_an_error(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    slow, loader = await stalled(store, clock)
    await slow.start()
    asked = await asking(slow, loader)
    stopping = asyncio.ensure_future(slow.stop())
    await move_loop(5)
    await stopping
    with pytest.raises(DirectoryUnavailableError):
        await asked


async def test_an_answer_is_waited_for_no_longer_than_it_may_take(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    slow, loader = await stalled(store, clock, load_s=0.1)
    with pytest.raises(DirectoryUnavailableError, match=r"no answer within 0\.1 s"):
        await slow.identities("example.com")
    loader.may_go_on.set()
    assert await _verified(slow) == [True]


async def test_an_error_that_nobody_waits_for_is_no_lost_error(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    lost: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    async with store.changing(ACTOR) as change:
        await put_policy(change, identity_place(), "send", sender_policy())
    await raw(store, "UPDATE policies SET document = '{}' WHERE name = 'send'")
    slow, loader = await stalled(store, clock)
    asked = await asking(slow, loader)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    loader.may_go_on.set()
    await until(lambda: all(task.get_name() != "load" for task in asyncio.all_tasks()))
    del asked, slow
    gc.collect()
    assert not lost


# -- bounds ------------------------------------------------------------------------------------


async def test_what_is_kept_is_bounded_by_octets_and_the_least_used_goes_first(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    rows = [
        IdentityRow(account_id=ACME, region=REGION, name=f"d{number}.example", state="success")
        for number in range(100)
    ]
    async with store.changing(ACTOR) as change:
        await add_identities(change, rows)
    small = live(store, clock, LiveSettings(max_octets=50_000))
    await small.catch_up()
    for row in rows:
        assert await _verified(small, row.name) == [True]
        assert await _verified(small, "example.com") == [True]
        assert 0 < small.cache.octets <= 50_000
    with noted_statements() as statements:
        assert await _verified(small, rows[-1].name) == [True]
        assert await _verified(small, "example.com") == [True]
        assert not statements
        assert await _verified(small, rows[0].name) == [True]
        assert statements


async def test_what_is_larger_than_all_room_is_answered_and_not_kept(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    tiny = live(store, clock, LiveSettings(max_octets=100))
    await tiny.catch_up()
    for _ in range(2):
        assert await _verified(tiny) == [True]
    assert (len(tiny.cache), tiny.cache.octets) == (0, 0)


async def test_that_something_is_absent_is_kept_briefly_and_of_few(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    brief = live(store, clock, LiveSettings(max_absent=10, absent_s=60))
    await brief.catch_up()
    for number in range(100):
        assert not await brief.identities(f"n{number}.example")
        assert len(brief.cache) <= 10
    clock.move(59)
    with noted_statements() as statements:
        assert not await brief.identities("n99.example")
        assert not statements
        assert not await brief.identities("n0.example")
        assert statements
    clock.move(1)
    with noted_statements() as statements:
        assert not await brief.identities("n99.example")
    assert statements


# -- a database that cannot be asked -----------------------------------------------------------


async def _unavailable(work: Awaitable[Sequence[Identity] | object]) -> str:
    with pytest.raises(DirectoryUnavailableError) as refusal:
        await work
    return str(refusal.value)


async def test_what_is_kept_serves_while_the_database_is_away_and_no_longer_than_it_may(
    store: DirectoryStore,
    clock: MovableClock,
    directory: LiveDirectory,
    databases: Databases,
) -> None:
    url = store.database.url.render_as_string(hide_password=False)
    await ask_all(directory)
    databases.cut_off(url)
    # Also before the feed has noticed it, what is missing is not there to be answered.
    assert store.database.name in await _unavailable(directory.identities("new.example"))
    assert store.database.name in await _unavailable(directory.catch_up())
    clock.move(300)
    await ask_all(directory)  # also that something is not there, which is else kept briefly
    clock.move(1)
    for ask in (directory.access_key(KEY), directory.identities("example.com")):
        assert "last read 301 s ago" in await _unavailable(ask)
    databases.give_back(url)
    assert "last read" in await _unavailable(directory.access_key(KEY))
    await directory.catch_up()
    await ask_all(directory)
    assert directory.age_s == 0


async def test_a_directory_that_follows_comes_back_by_itself(
    store: DirectoryStore,
    clock: MovableClock,
    directory: LiveDirectory,
    databases: Databases,
) -> None:
    url = store.database.url.render_as_string(hide_password=False)
    received = Received()
    follower = live(store, clock, LiveSettings(poll_s=0.01), received)
    await follower.start()
    try:
        assert await _verified(follower) == [True]
        databases.cut_off(url)
        await until(lambda: follower.problem is not None)
        clock.move(7)
        with noted_statements() as statements:
            problem = await _unavailable(follower.identities("new.example"))
        assert store.database.name in problem
        assert not [one for one in statements if "identities" in one]
        assert await _verified(follower) == [True]
        databases.give_back(url)
        await until(lambda: follower.problem is None)
        failed, again = received.events
        assert isinstance(failed, DirectoryChanged)
        assert store.database.name in (failed.problem or "")
        assert again == DirectoryChanged(None, 7.0, clock.now())
        assert await _verified(follower, "new.example") == []
        assert await _verified(follower, "other.example") == [True]
    finally:
        await follower.stop()


async def test_a_change_that_was_made_while_the_feed_could_not_read_is_seen_afterwards(
    store: DirectoryStore, directory: LiveDirectory, databases: Databases
) -> None:
    url = store.database.url.render_as_string(hide_password=False)
    assert await _verified(directory) == [True]
    async with store.changing(ACTOR) as change:
        await _update(change, {"state": "failed"})
    databases.cut_off(url)
    await _unavailable(directory.catch_up())
    databases.give_back(url)
    await directory.catch_up()
    assert await _verified(directory) == [False]


async def test_a_clock_that_is_set_back_or_ahead_does_no_harm(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    await ask_all(directory)
    for days in (-1, 2, -400):
        clock.step(days * 86400)
        await ask_all(directory)
        async with store.changing(ACTOR) as change:
            await update_account(change, ACME, {"name": f"Acme {days}"})
        await directory.catch_up()
        key = await directory.access_key(KEY)
        assert key is not None
        assert key.principal.account.name == f"Acme {days}"
        assert directory.age_s == 0


async def test_the_age_is_that_of_what_was_read_and_not_of_its_arrival(
    store: DirectoryStore, clock: MovableClock, directory: LiveDirectory
) -> None:
    """A reading that took long knows of nothing that was committed since it began."""
    async with store.changing(ACTOR):
        reading = asyncio.ensure_future(directory.catch_up())
        await asyncio.sleep(0)
        clock.move(30)
        await reading
    assert directory.age_s == 30
