"""Accounts: how they are made, changed and deleted, and what is refused."""

from typing import Any, Final

import pytest

from smtpgate.directory.accounts import (
    AccountRow,
    account,
    account_page,
    create_account,
    delete_account,
    update_account,
)
from smtpgate.directory.change import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.identities import delete_identity
from smtpgate.directory.keys import delete_access_key
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import delete_user
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.tenants import (
    ACME,
    OTHER,
    add_account,
    add_identity,
    add_key,
    add_user,
    notes,
    raw,
)


async def read(store: DirectoryStore, account_id: str = ACME) -> AccountRow:
    async with store.reading() as connection:
        return await account(connection, account_id)


async def change(
    store: DirectoryStore, changes: dict[str, Any], account_id: str = ACME
) -> AccountRow:
    async with store.changing(ACTOR) as made:
        return await update_account(made, account_id, changes)


async def delete(store: DirectoryStore, account_id: str = ACME) -> None:
    async with store.changing(ACTOR) as made:
        await delete_account(made, account_id)


async def test_what_was_made_is_read_back(store: DirectoryStore, clock: MovableClock) -> None:
    made = await add_account(
        store,
        name="Acme Corporation ☃",
        organization_id="o-acme000001",
        paused_reason="until it has paid",
        max_24h_send=2**40,
        max_send_rate_per_s=2.5,
    )
    assert await read(store) == made
    assert made.created_at == clock.now()


async def test_an_account_without_a_name_is_called_by_its_id(store: DirectoryStore) -> None:
    assert (await add_account(store)).name == ACME
    assert (await change(store, {"name": "Acme"})).name == "Acme"
    assert (await change(store, {"name": ""})).name == ACME
    assert (await read(store)).name == ACME


async def test_an_account_is_made_once(store: DirectoryStore) -> None:
    await add_account(store, name="Acme")
    with pytest.raises(ConflictError, match="account 111111111111 already exists"):
        await add_account(store, name="Another")
    assert (await read(store)).name == "Acme"


BAD_IDS: Final = (
    "", "1", "11111111111", "1111111111111", "11111111111a", "١١١١١١١١١١١١", "%", f"{ACME}\n",
    f" {ACME}", "a\0b", "\ud800",
)  # fmt: skip


async def test_an_account_id_has_12_digits(store: DirectoryStore) -> None:
    for account_id in BAD_IDS:
        with pytest.raises(RefusedChangeError, match="it has 12 digits"):
            await add_account(store, account_id)
    assert not await notes(store)


BAD_COLUMNS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"name": "x" * 257}, "at most 256 characters"),
    ({"name": "a\0b"}, "control character"),
    ({"name": "two\nlines"}, "control character"),
    ({"name": "\ud800"}, "control character"),
    ({"paused_reason": "a\r\nb"}, "control character"),
    ({"paused_reason": "x" * 257}, "at most 256 characters"),
    ({"organization_id": "acme"}, "an organization id is o-"),
    ({"organization_id": ""}, "an organization id is o-"),
    ({"max_24h_send": -2}, "0 or more, or -1"),
    ({"max_24h_send": 2**63}, "0 or more, or -1"),
    ({"max_send_rate_per_s": 0}, "more than 0"),
    ({"max_send_rate_per_s": -0.5}, "more than 0"),
    ({"max_send_rate_per_s": 1_000_001}, "at most 1000000"),
    ({"max_send_rate_per_s": float("nan")}, "more than 0"),
    ({"max_send_rate_per_s": float("inf")}, "at most 1000000"),
]


async def test_what_an_account_cannot_have_is_refused(store: DirectoryStore) -> None:
    made = await add_account(store)
    for columns, said in BAD_COLUMNS:
        with pytest.raises(RefusedChangeError, match=said):
            await add_account(store, OTHER, **columns)
        with pytest.raises(RefusedChangeError, match=said):
            await change(store, columns)
    assert await read(store) == made
    assert [note.action for note in await notes(store)] == ["create"]


async def test_the_outermost_limits_are_kept(store: DirectoryStore) -> None:
    await add_account(store)
    for day, rate in ((0, 0.01), (-1, -1), (2**63 - 1, 1_000_000)):
        await change(store, {"max_24h_send": day, "max_send_rate_per_s": rate})
        row = await read(store)
        assert (row.max_24h_send, row.max_send_rate_per_s) == (day, rate)


async def test_a_change_is_noted_with_what_changed_and_nothing_else(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await add_account(store, name="Acme", max_24h_send=100)
    clock.move(60)
    await change(store, {"max_24h_send": 200, "name": "Acme"})
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.account_id, note.name) == (
        "change",
        "account",
        ACME,
        "",
    )
    assert (note.before, note.after) == ({"max_24h_send": 100}, {"max_24h_send": 200})
    assert (note.at, note.actor, note.origin) == (clock.now(), ACTOR.name, ACTOR.origin)


async def test_a_change_to_what_is_there_is_none(store: DirectoryStore) -> None:
    made = await add_account(store, name="Acme", max_send_rate_per_s=1)
    assert await change(store, {"name": "Acme", "max_send_rate_per_s": 1}) == made
    assert [note.action for note in await notes(store)] == ["create"]


async def test_an_account_is_paused_and_resumed(store: DirectoryStore) -> None:
    await add_account(store)
    async with store.changing(ACTOR) as made:
        reason = {"paused_reason": "too many complaints"}
        await update_account(made, ACME, reason, action="pause")
    assert (await read(store)).paused_reason == "too many complaints"
    with pytest.raises(RefusedChangeError, match="say why it is paused"):
        await change(store, {"paused_reason": ""})
    assert (await change(store, {"paused_reason": None})).paused_reason is None
    assert (await read(store)).paused_reason is None
    assert [note.action for note in await notes(store)] == ["create", "pause", "change"]


async def test_what_is_not_there_is_not_found(store: DirectoryStore) -> None:
    await add_account(store)
    for account_id in (OTHER, "", "' OR 1=1 --", "a\0b", "\ud800"):
        for work in (
            read(store, account_id),
            delete(store, account_id),
            change(store, {"name": "x"}, account_id),
        ):
            with pytest.raises(NotFoundError, match="there is no account"):
                await work


async def test_an_account_that_has_something_stays(store: DirectoryStore) -> None:
    await add_account(store)
    await add_user(store)
    key = await add_key(store)
    identity = await add_identity(store)
    for things in ("users", "access keys", "identities"):
        with pytest.raises(ConflictError, match=f"still has {things}; delete them first"):
            await delete(store)
        async with store.changing(ACTOR) as made:
            if things == "users":
                await delete_user(made, ACME, "mailer")
            elif things == "access keys":
                await delete_access_key(made, key.id)
            else:
                await delete_identity(made, identity, store.partition)
    await delete(store)
    with pytest.raises(NotFoundError):
        await read(store)
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.after) == ("delete", "account", None)
    assert note.before["name"] == ACME


async def test_what_an_account_had_is_kept_from_it_by_the_database_too(
    store: DirectoryStore,
) -> None:
    await add_account(store)
    await add_user(store)
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await raw(store, "DELETE FROM accounts")
    assert (await read(store)).id == ACME


async def test_accounts_are_reported_in_pages(store: DirectoryStore) -> None:
    ids = [f"{number:012}" for number in (5, 1, 3, 2, 4)]
    for account_id in ids:
        await add_account(store, account_id)
    found, after = [], ""
    async with store.reading() as connection:
        while page := await account_page(connection, after=after, limit=2):
            assert len(page) <= 2
            found += [row.id for row in page]
            after = page[-1].id
        assert found == sorted(ids)
        assert [row.id for row in await account_page(connection)] == sorted(ids)


async def test_a_change_that_failed_half_way_left_nothing(store: DirectoryStore) -> None:
    async def half() -> None:
        async with store.changing(ACTOR) as made:
            await create_account(made, AccountRow(id=ACME))
            await create_account(made, AccountRow(id="x"))

    with pytest.raises(RefusedChangeError):
        await half()
    with pytest.raises(NotFoundError):
        await read(store)
    assert not await notes(store)
