"""Identities: registered by any accounts, each for itself, in a region."""

from datetime import timedelta
from typing import Any, Final

import pytest

from smtpgate.directory.change import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.dkim import dkim_keys_of
from smtpgate.directory.identities import (
    IdentityRow,
    delete_identity,
    identity,
    identity_page,
    update_identity,
)
from smtpgate.directory.policies import policies_of, policy_history, put_policy
from smtpgate.directory.store import DirectoryStore
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.tenants import (
    ACME,
    OTHER,
    add_account,
    add_identity,
    identity_place,
    notes,
    sender_policy,
    signing_key,
)
from tests.support.world import REGION


async def read(
    store: DirectoryStore, name: str = "example.com", account_id: str = ACME
) -> IdentityRow:
    async with store.reading() as connection:
        return await identity(connection, account_id, REGION, name)


async def change(
    store: DirectoryStore, changes: dict[str, Any], *, action: str = "change"
) -> IdentityRow:
    async with store.changing(ACTOR) as made:
        before = await identity(made.connection, ACME, REGION, "example.com")
        return await update_identity(made, before, changes, action=action)


async def delete(store: DirectoryStore, row: IdentityRow) -> None:
    async with store.changing(ACTOR) as made:
        await delete_identity(made, row, store.partition)


@pytest.fixture
async def acme(store: DirectoryStore) -> str:
    """An account, beside another."""
    await add_account(store)
    await add_account(store, OTHER)
    return ACME


async def test_what_was_made_is_read_back(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    moments: dict[str, Any] = {
        name: clock.now() + timedelta(seconds=number, microseconds=1)
        for number, name in enumerate(
            ("started_at", "verified_at", "checked_at", "missing_since", "next_check_at")
        )
    }
    made = await add_identity(
        store,
        token="a token",
        state="pending",
        method="txt",
        problem="no record ☃",
        code_digest=b"\0\xff",
        code_sent_at=clock.now(),
        code_failures=3,
        paused_reason="complaints",
        **moments,
    )
    assert await read(store) == made
    assert made.created_at == clock.now()


SPELLINGS: Final = [
    ("Example.COM", "example.com"),
    ("Sub.Example.Com", "sub.example.com"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("Ceo@Example.COM", "Ceo@example.com"),
    ('"ceo"@example.com', "ceo@example.com"),
    ("jürgen@bücher.example", "jürgen@xn--bcher-kva.example"),
]


async def test_an_identity_has_one_spelling_and_is_found_by_each(
    store: DirectoryStore, acme: str
) -> None:
    for written, name in SPELLINGS:
        made = await add_identity(store, written)
        assert made.name == name
        assert made.domain == name.rpartition("@")[2]
        for spelling in (written, name):
            assert await read(store, spelling) == made
            with pytest.raises(ConflictError, match="already exists"):
                await add_identity(store, spelling)


async def test_local_parts_differ_in_letter_case(store: DirectoryStore, acme: str) -> None:
    for name in ("ceo@example.com", "CEO@example.com"):
        assert (await add_identity(store, name)).name == name
        assert (await read(store, name)).name == name


BAD_NAMES: Final = (
    "", "@", "ceo@", "@example.com", "two words.example", "a/b", "a@b@example.com", "ex_ample",
    "a/b@example.com", '"two words"@example.com', "x" * 64 + ".example", "a\0b.example",
    "example.com\n", "\ud800.example", "*",
)  # fmt: skip


async def test_a_name_that_no_arn_can_name_is_refused(store: DirectoryStore, acme: str) -> None:
    for name in BAD_NAMES:
        with pytest.raises(RefusedChangeError, match="neither a domain nor an address"):
            await add_identity(store, name)
        with pytest.raises(NotFoundError, match="there is no identity"):
            await read(store, name)


async def test_a_region_is_one(store: DirectoryStore, acme: str) -> None:
    for region in ("*", "", "Us-East-1", "a" * 33):
        with pytest.raises(RefusedChangeError, match="region"):
            await add_identity(store, region=region)


async def test_a_reason_to_pause_is_a_line(store: DirectoryStore, acme: str) -> None:
    await add_identity(store)
    for reason in ("a\r\nb", "a\0b", "x" * 257):
        with pytest.raises(RefusedChangeError, match="paused_reason"):
            await add_identity(store, "new.example", paused_reason=reason)
        with pytest.raises(RefusedChangeError, match="paused_reason"):
            await change(store, {"paused_reason": reason})
    assert (await change(store, {"paused_reason": "abuse"})).paused_reason == "abuse"
    assert (await change(store, {"paused_reason": None})).paused_reason is None


async def test_several_accounts_register_a_name_each_for_itself(
    store: DirectoryStore, acme: str
) -> None:
    one = await add_identity(store, token="one", state="success")
    other = await add_identity(store, account_id=OTHER, token="other", state="pending")
    assert await read(store) == one
    assert await read(store, account_id=OTHER) == other
    async with store.reading() as connection:
        assert await identity_page(connection, REGION, name="example.com") == [one, other]
    await delete(store, one)
    assert await read(store, account_id=OTHER) == other


async def test_regions_are_apart(store: DirectoryStore, acme: str) -> None:
    here = await add_identity(store)
    there = await add_identity(store, region="eu-west-1")
    assert await read(store) == here
    async with store.reading() as connection:
        assert await identity(connection, ACME, "eu-west-1", "example.com") == there
        assert await identity_page(connection, "eu-west-1") == [there]
    await delete(store, there)
    assert await read(store) == here


async def test_an_identity_needs_an_account(store: DirectoryStore, acme: str) -> None:
    with pytest.raises(NotFoundError, match="there is no account"):
        await add_identity(store, account_id="333333333333")


async def test_facts_are_noted_and_times_are_not(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    await add_identity(store, state="pending", method=None)
    before = await notes(store)
    await change(
        store,
        {
            "checked_at": clock.now(),
            "next_check_at": clock.now() + timedelta(hours=1),
            "problem": "no record",
            "code_digest": b"digest",
            "code_failures": 1,
        },
    )
    assert await notes(store) == before
    assert (await read(store)).problem == "no record"
    await change(store, {"state": "success", "method": "txt"}, action="verify")
    (note,) = (await notes(store))[len(before) :]
    assert (note.action, note.kind, note.account_id, note.name) == (
        "verify", "identity", ACME, "example.com",
    )  # fmt: skip
    facts = {"method": None, "missing_since": None, "paused_reason": None}
    assert note.before == facts | {"state": "pending"}
    assert note.after == facts | {"state": "success", "method": "txt"}


async def test_a_change_to_what_is_there_is_none(store: DirectoryStore, acme: str) -> None:
    made = await add_identity(store)
    before = await notes(store)
    assert await change(store, {"state": made.state, "problem": ""}) == made
    assert await notes(store) == before


async def test_an_identity_goes_with_its_policies_and_keys_and_nobody_elses(
    store: DirectoryStore, acme: str
) -> None:
    rows = {
        account_id: await add_identity(store, account_id=account_id)
        for account_id in (acme, OTHER)
    }
    for account_id in rows:
        await signing_key(store, account_id=account_id)
        place = identity_place(account_id=account_id)
        async with store.changing(ACTOR) as made:
            await put_policy(made, place, "send", sender_policy(account_id=account_id))
    await delete(store, rows[acme])
    with pytest.raises(NotFoundError):
        await read(store)
    async with store.reading() as connection:
        for account_id, left in ((acme, 0), (OTHER, 1)):
            place = identity_place(account_id=account_id)
            assert len(await policies_of(connection, place)) == left
            keys = await dkim_keys_of(connection, account_id, REGION, "example.com")
            assert len(keys) == left
        history = await policy_history(connection, identity_place(), "send")
    assert [row.document is None for row in history] == [True, False]
    assert [note.action for note in (await notes(store))[-2:]] == ["delete-policy", "delete"]


async def test_identities_are_reported_in_pages(store: DirectoryStore, acme: str) -> None:
    names = ["b.example", "a.example", "ceo@a.example", "c.example"]
    for account_id in (OTHER, acme):
        for name in names:
            await add_identity(store, name, account_id)
    found: list[tuple[str, str]] = []
    async with store.reading() as connection:
        after = ("", "")
        while page := await identity_page(connection, REGION, after=after, limit=3):
            found += [(row.account_id, row.name) for row in page]
            after = found[-1]
        assert found == [(one, name) for one in (acme, OTHER) for name in sorted(names)]
        of_one = await identity_page(
            connection, REGION, account_id=OTHER, after=(OTHER, "b.example")
        )
        assert [row.name for row in of_one] == ["c.example", "ceo@a.example"]
        assert not await identity_page(connection, "eu-west-1")
