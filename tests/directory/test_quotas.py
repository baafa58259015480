"""Limits of users, keys and grants, and raises: set, noted, refused, dropped."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from smtpgate.directory.accounts import delete_account
from smtpgate.directory.change import RefusedChangeError
from smtpgate.directory.identities import delete_identity, identity
from smtpgate.directory.keys import delete_access_key
from smtpgate.directory.quotas import MAX_CAPS, Quota, QuotaKey, quota_at, quotas_about
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import delete_user
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.rows import rows
from tests.support.tenants import (
    ACME,
    OTHER,
    add_account,
    add_identity,
    add_key,
    add_user,
    limit,
    notes,
    raw,
)
from tests.support.world import REGION

KEY: Final = "AKIAACME000000000001"
UNTIL: Final = datetime(2026, 11, 30, tzinfo=UTC)
ACCOUNT: Final = QuotaKey.of_account(ACME)
USER: Final = QuotaKey.of_user(ACME, "Mailer")
OF_KEY: Final = QuotaKey.of_key(ACME, KEY)
GRANT: Final = QuotaKey.of_grant(ACME, REGION, "example.com", OTHER)
PLACES: Final = (ACCOUNT, GRANT, OF_KEY, USER)  # in the order in which they are listed
RAISE: Final[dict[str, Any]] = {
    "raised_24h_send": 1000,
    "raised_send_rate_per_s": 2.5,
    "raised_until": UNTIL,
}


@pytest.fixture(autouse=True)
async def tenants(store: DirectoryStore) -> None:
    """Two accounts, and what one of them can limit."""
    await add_account(store)
    await add_account(store, OTHER)
    await add_user(store, "Mailer")
    await add_key(store, KEY, user_name="Mailer")
    await add_identity(store)


async def read(store: DirectoryStore, place: QuotaKey) -> Quota:
    async with store.reading() as connection:
        return await quota_at(connection, place)


async def about(
    store: DirectoryStore, account_id: str | None = None, region: str | None = None
) -> list[QuotaKey]:
    async with store.reading() as connection:
        return [place for place, _ in await quotas_about(connection, account_id, region=region)]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.kind)
async def test_what_was_set_is_read_back(store: DirectoryStore, place: QuotaKey) -> None:
    assert await read(store, place) == Quota()
    made = await limit(store, place, max_24h_send=0, max_send_rate_per_s=0.5, **RAISE)
    assert made == Quota(max_24h_send=0, max_send_rate_per_s=0.5, **RAISE)
    assert await read(store, place) == made
    await limit(store, place, max_24h_send=2**40)
    assert await read(store, place) == Quota(
        max_24h_send=2**40, max_send_rate_per_s=0.5, **RAISE
    )
    nothing = dict.fromkeys(Quota.__slots__)
    assert await limit(store, place, **nothing) == Quota()
    assert await raw(store, "SELECT * FROM quotas") == []


async def test_each_change_is_noted_with_its_subject(store: DirectoryStore) -> None:
    before = len(await notes(store))
    await limit(store, GRANT, max_24h_send=10)
    await limit(store, GRANT, max_24h_send=10)
    await limit(store, GRANT, **RAISE)
    await limit(store, USER, max_24h_send=10)
    output = [(one.kind, one.name, one.before, one.after) for one in await notes(store, before)]
    raised = RAISE | {"raised_until": UNTIL.isoformat()}
    assert output == [
        (
            "identity",
            "example.com",
            {"delegate": OTHER},
            {"delegate": OTHER, "max_24h_send": 10},
        ),
        (
            "identity",
            "example.com",
            {"delegate": OTHER, "max_24h_send": 10},
            {"delegate": OTHER, "max_24h_send": 10, **raised},
        ),
        ("user", "Mailer", {}, {"max_24h_send": 10}),
    ]


async def test_a_raise_that_has_ended_goes_with_the_next_change(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await limit(store, USER, max_24h_send=10, **RAISE)
    clock.move((UNTIL - clock.now()).total_seconds() + 1)
    assert await limit(store, USER, max_24h_send=20) == Quota(max_24h_send=20)
    assert await read(store, USER) == Quota(max_24h_send=20)


async def test_an_account_s_are_listed_and_those_that_it_is_capped_at(
    store: DirectoryStore,
) -> None:
    assert await about(store) == []
    for place in PLACES:
        await limit(store, place, max_24h_send=10)
    assert await about(store) == list(PLACES)
    assert await about(store, ACME) == list(PLACES)
    assert await about(store, OTHER) == [GRANT]
    assert await about(store, ACME, "eu-west-1") == [ACCOUNT, OF_KEY, USER]
    assert await about(store, OTHER, REGION) == [GRANT]


async def test_whatever_goes_takes_its_limits_along(store: DirectoryStore) -> None:
    for place in PLACES:
        await limit(store, place, max_24h_send=10)
    await add_user(store, "another")
    another = QuotaKey.of_user(ACME, "another")
    await limit(store, another, max_24h_send=10)
    async with store.changing(ACTOR) as change:
        row = await identity(change.connection, ACME, REGION, "example.com")
        await delete_identity(change, row, store.partition)
    assert await about(store) == [ACCOUNT, OF_KEY, another, USER]
    async with store.changing(ACTOR) as change:
        await delete_access_key(change, KEY)
    assert await about(store) == [ACCOUNT, another, USER]
    async with store.changing(ACTOR) as change:
        await delete_user(change, ACME, "mailer")
    assert await about(store) == [ACCOUNT, another]
    async with store.changing(ACTOR) as change:
        await delete_user(change, ACME, "another")
        await delete_account(change, ACME)
    assert await about(store) == []


REFUSED: Final[list[tuple[QuotaKey, dict[str, Any], str]]] = [
    (USER, {"max_24h_send": -2}, "user 111111111111/Mailer: max_24h_send: must be 0 or more"),
    (USER, {"max_24h_send": 2**63}, "max_24h_send: must be 0 or more"),
    (
        OF_KEY,
        {"max_send_rate_per_s": 0},
        f"access key {KEY}: max_send_rate_per_s: must be more",
    ),
    (OF_KEY, {"max_send_rate_per_s": float("nan")}, "max_send_rate_per_s: must be more"),
    (ACCOUNT, {**RAISE, "raised_24h_send": -5}, "account 111111111111: raised_24h_send: must"),
    (ACCOUNT, {**RAISE, "raised_send_rate_per_s": 1e9}, "raised_send_rate_per_s: must be more"),
    (
        ACCOUNT,
        {**RAISE, "raised_until": datetime(2026, 11, 23, 10, tzinfo=UTC)},
        "account 111111111111: a raise ends later than now",
    ),
    (
        QuotaKey.of_grant(ACME, REGION, "example.com", ACME),
        {"max_24h_send": 10},
        "identity 111111111111/example.com: an owner does not cap itself",
    ),
    (
        QuotaKey.of_grant(ACME, REGION, "example.com", "12"),
        {"max_24h_send": 10},
        "`12' is no account id: it has 12 digits",
    ),
]


@rows("place, changes, says", REFUSED)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    store: DirectoryStore, place: QuotaKey, changes: dict[str, Any], says: str
) -> None:
    before = len(await notes(store))
    with pytest.raises(RefusedChangeError) as refusal:
        await limit(store, place, **changes)
    assert says in str(refusal.value)
    assert await about(store) == []
    assert len(await notes(store)) == before


async def test_an_identity_caps_only_so_many(store: DirectoryStore) -> None:
    values = ", ".join(
        f"('{ACME}', 'identity', '{REGION}', 'example.com', '{number:012}', 1)"
        for number in range(MAX_CAPS)
    )
    columns = "account_id, kind, region, subject, delegate_id, max_24h_send"
    await raw(store, f"INSERT INTO quotas ({columns}) VALUES {values}")
    with pytest.raises(RefusedChangeError, match="caps 1000 accounts, the most it may"):
        await limit(store, GRANT, max_24h_send=1)
    one_of_them = QuotaKey.of_grant(ACME, REGION, "example.com", "0" * 12)
    await limit(store, one_of_them, max_24h_send=2, **RAISE)
    await limit(store, one_of_them, max_24h_send=None)  # its raise is no cap
    await limit(store, GRANT, max_24h_send=1)
    with pytest.raises(RefusedChangeError, match="caps 1000 accounts, the most it may"):
        await limit(store, one_of_them, max_send_rate_per_s=1)
