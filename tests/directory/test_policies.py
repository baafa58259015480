"""Policies: their limits, their history, and two administrators at one policy."""

import asyncio
from collections.abc import Awaitable
from typing import Final

import pytest

from smtpgate.directory.change import Actor, ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.policies import (
    MAY_SEND,
    PolicyOwner,
    PolicyRow,
    check_policy,
    delete_policy,
    policies_of,
    policy_history,
    put_policy,
    roll_back_policy,
)
from smtpgate.directory.store import DirectoryStore
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, open_store
from tests.support.tenants import (
    ACME,
    OTHER,
    add_account,
    add_identity,
    add_user,
    identity_place,
    notes,
    sender_policy,
)

USER: Final = PolicyOwner.of_user(ACME, "mailer")
IDENTITY: Final = identity_place()


@pytest.fixture
async def acme(store: DirectoryStore) -> str:
    """An account with a user that has no policy, and an identity."""
    await add_account(store)
    await add_user(store, may_send=False)
    await add_identity(store)
    return ACME


async def put(
    store: DirectoryStore,
    document: str,
    *,
    seen: int | None = None,
    name: str = "send",
    place: PolicyOwner = IDENTITY,
    actor: Actor = ACTOR,
) -> PolicyRow:
    async with store.changing(actor) as change:
        return await put_policy(change, place, name, document, expected_version=seen)


async def delete(store: DirectoryStore, *, seen: int | None = None, name: str = "send") -> None:
    async with store.changing(ACTOR) as change:
        await delete_policy(change, IDENTITY, name, expected_version=seen)


async def roll_back(store: DirectoryStore, version: int) -> PolicyRow:
    async with store.changing(ACTOR) as change:
        return await roll_back_policy(change, IDENTITY, "send", version)


async def current(store: DirectoryStore, place: PolicyOwner = IDENTITY) -> list[PolicyRow]:
    async with store.reading() as connection:
        return await policies_of(connection, place)


async def history(store: DirectoryStore, name: str = "send") -> list[PolicyRow]:
    async with store.reading() as connection:
        return await policy_history(connection, IDENTITY, name)


async def test_what_was_put_is_read_back_as_it_was_written(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    document = f"\n{sender_policy(sid='S1')}\r\n\t"
    row = await put(store, document)
    assert row == PolicyRow("send", document, 1, clock.now(), ACTOR.name)
    assert await current(store) == [row]
    assert await history(store) == [row]


async def test_a_policy_is_replaced_by_who_has_seen_it(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    first = await put(store, sender_policy(sid="A"))
    clock.move(60)
    second = await put(store, sender_policy(sid="B"), seen=1, actor=Actor("bob", "api"))
    assert (second.version, second.changed_at, second.changed_by) == (2, clock.now(), "bob")
    assert await current(store) == [second]
    assert await history(store) == [second, first]
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.account_id, note.name, note.actor) == (
        "put-policy", "identity", ACME, "example.com", "bob",
    )  # fmt: skip
    assert note.before == {"policy": "send", "version": 1, "document": first.document}
    assert note.after == {"policy": "send", "version": 2, "document": second.document}


async def test_the_same_document_again_is_no_change(store: DirectoryStore, acme: str) -> None:
    row = await put(store, sender_policy())
    before = await notes(store)
    assert await put(store, sender_policy(), seen=1) == row
    assert await notes(store) == before


async def test_the_second_of_two_administrators_is_reported_and_nothing_is_lost(
    store: DirectoryStore, acme: str
) -> None:
    await put(store, sender_policy(sid="A"))
    await put(store, sender_policy(sid="B"), seen=1, actor=Actor("bob", "api"))
    output = "is at version 2, changed by bob at 2026-11-23 10:00:00Z; look at it, and say that"
    for seen in (None, 1, 3):
        with pytest.raises(ConflictError, match=output):
            await put(store, sender_policy(sid="C"), seen=seen)
    with pytest.raises(ConflictError, match=output):
        await delete(store, seen=1)
    (row,) = await current(store)
    assert row.document == sender_policy(sid="B")


async def test_replacing_what_was_deleted_meanwhile_is_an_error(
    store: DirectoryStore, acme: str
) -> None:
    await put(store, sender_policy())
    await delete(store, seen=1)
    for seen in (1, 2):
        with pytest.raises(ConflictError, match="was deleted meanwhile"):
            await put(store, sender_policy(), seen=seen)
    with pytest.raises(NotFoundError, match="has no policy `send'"):
        await delete(store)


async def test_of_many_at_the_same_time_one_is_first(store: DirectoryStore, acme: str) -> None:
    """Each has its own connection, as if it came through another gate of the fleet."""
    await put(store, sender_policy(sid="Seen"))
    url = store.database.url.render_as_string(hide_password=False)
    ready, go = asyncio.Semaphore(0), asyncio.Event()

    async def administrator(number: int) -> PolicyRow | Exception:
        async with open_store(url) as own:
            (seen,) = await current(own)
            ready.release()
            await go.wait()
            try:
                return await put(own, sender_policy(sid=f"N{number}"), seen=seen.version)
            except ConflictError as error:
                return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(administrator(number)) for number in range(4)]
        for _ in tasks:
            await ready.acquire()
        go.set()
    done = [task.result() for task in tasks]
    (winner,) = [row for row in done if isinstance(row, PolicyRow)]
    assert winner.version == 2
    assert await current(store) == [winner]
    assert [row.version for row in await history(store)] == [2, 1]
    assert sum(isinstance(error, ConflictError) for error in done) == 3


async def test_a_change_that_is_open_is_waited_for_and_then_seen(
    store: DirectoryStore, acme: str
) -> None:
    """The second begins before the first has ended, and does not read what was before it."""
    await put(store, sender_policy(sid="Seen"))
    url = store.database.url.render_as_string(hide_password=False)
    async with (
        open_store(url) as other,
        asyncio.TaskGroup() as group,
        store.changing(ACTOR) as change,
    ):
        document = sender_policy(sid="First")
        await put_policy(change, IDENTITY, "send", document, expected_version=1)
        second = group.create_task(_refused(put(other, sender_policy(sid="B"), seen=1)))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not second.done()
    assert "is at version 2" in second.result()
    (row,) = await current(store)
    assert row.document == sender_policy(sid="First")


async def _refused(work: Awaitable[PolicyRow]) -> str:
    with pytest.raises(ConflictError) as refusal:
        await work
    return str(refusal.value)


async def test_a_policy_that_was_deleted_keeps_its_history_and_its_numbers(
    store: DirectoryStore, acme: str
) -> None:
    await put(store, sender_policy(sid="A"))
    await delete(store)
    assert not await current(store)
    note = (await notes(store))[-1]
    assert (note.action, note.after) == ("delete-policy", None)
    assert note.before["document"] == sender_policy(sid="A")
    assert (await put(store, sender_policy(sid="B"))).version == 3
    assert [(row.version, row.document) for row in await history(store)] == [
        (3, sender_policy(sid="B")), (2, None), (1, sender_policy(sid="A")),
    ]  # fmt: skip


async def test_an_earlier_version_comes_back_as_a_new_one(
    store: DirectoryStore, acme: str
) -> None:
    for number, sid in enumerate("ABC"):
        await put(store, sender_policy(sid=sid), seen=number or None)
    back = await roll_back(store, 1)
    assert (back.version, back.document) == (4, sender_policy(sid="A"))
    assert await current(store) == [back]
    assert (await notes(store))[-1].action == "roll-back-policy"
    await delete(store)
    assert (await roll_back(store, 2)).document == sender_policy(sid="B")


async def test_only_a_version_with_a_document_comes_back(
    store: DirectoryStore, acme: str
) -> None:
    with pytest.raises(NotFoundError, match="never had a policy `send'"):
        await roll_back(store, 1)
    await put(store, sender_policy())
    await delete(store)
    for version in (0, 2, 9):
        with pytest.raises(NotFoundError, match=f"no document of version {version}, but of 1"):
            await roll_back(store, version)
    assert not await current(store)


BAD_NAMES: Final = ("", "x" * 65, "two words", "a/b", "ü", "a\0b", "\ud800", "send\n")


async def test_a_policys_name_is_spelled_like_one(store: DirectoryStore, acme: str) -> None:
    for name in BAD_NAMES:
        with pytest.raises(RefusedChangeError, match="is no policy name"):
            await put(store, sender_policy(), name=name)
        with pytest.raises(NotFoundError, match="has no policy"):
            await delete(store, name=name)
        with pytest.raises(NotFoundError, match="never had a policy"):
            await history(store, name)
    await put(store, sender_policy(), name="x" * 64)


async def test_policies_differ_in_letter_case(store: DirectoryStore, acme: str) -> None:
    for name in ("send", "Send"):
        await put(store, sender_policy(), name=name)
    assert {row.name for row in await current(store)} == {"send", "Send"}


@pytest.mark.parametrize("place", [IDENTITY, USER], ids=["identity", "user"])
async def test_there_is_room_for_20_policies(
    store: DirectoryStore, acme: str, place: PolicyOwner
) -> None:
    document = sender_policy() if place is IDENTITY else MAY_SEND
    async with store.changing(ACTOR) as change:
        for number in range(20):
            await put_policy(change, place, f"p{number:02}", document)
    with pytest.raises(RefusedChangeError, match="has 20 policies, the most it may have"):
        await put(store, document, place=place, name="one-more")
    # Replacing one needs no room.
    await put(store, document + "\n", place=place, name="p07", seen=1)
    assert len(await current(store, place)) == 20


async def test_an_identitys_policy_has_4096_octets_at_most(
    store: DirectoryStore, acme: str
) -> None:
    document = sender_policy()
    full = document + " " * (4096 - len(document.encode()))
    assert (await put(store, full)).document == full
    with pytest.raises(RefusedChangeError, match="has 4097 octets, and 4096 are allowed"):
        await put(store, full + " ", seen=1)
    # Octets, not characters.
    wide = sender_policy().replace(
        '"S"', '"S", "Condition": {"StringLike": {"ses:FromAddress": "ü"}}'
    )
    wide += " " * (4096 - len(wide))
    with pytest.raises(RefusedChangeError, match="has 4097 octets"):
        await put(store, wide, seen=1)


async def test_a_users_policy_has_6144_characters_besides_white_space_at_most(
    store: DirectoryStore, acme: str
) -> None:
    fixed = len("".join(MAY_SEND.split()))
    full = MAY_SEND.replace("MaySend", "M" * (6144 - fixed + len("MaySend")))
    assert (await put(store, full + " " * 5000, place=USER)).version == 1
    more = full.replace('"MMM', '"MMMM')
    with pytest.raises(RefusedChangeError, match="6145 characters besides white space"):
        await put(store, more, place=USER, seen=1)


async def test_a_users_policies_have_10240_characters_together_at_most(
    store: DirectoryStore, acme: str
) -> None:
    fixed = len("".join(MAY_SEND.split()))
    used = sum(len("".join((row.document or "").split())) for row in await current(store, USER))

    def of(characters: int) -> str:
        return MAY_SEND.replace("MaySend", "M" * (characters - fixed + len("MaySend")))

    assert (await put(store, of(6000), name="one", place=USER)).version == 1
    left = 10_240 - 6000 - used
    wanted = "would have 10241 characters besides white space in total, and 10240 are allowed"
    with pytest.raises(RefusedChangeError, match=wanted):
        await put(store, of(left + 1), name="two", place=USER)
    assert (await put(store, of(left) + "  ", name="two", place=USER)).version == 1
    # A policy that is replaced does not count.
    assert (await put(store, of(5999), name="one", place=USER, seen=1)).version == 2


async def test_every_problem_of_a_document_is_reported_and_nothing_is_kept(
    store: DirectoryStore, acme: str
) -> None:
    two = sender_policy("other.example") + " " * 4096
    before = await notes(store)
    with pytest.raises(RefusedChangeError) as refusal:
        await put(store, two)
    lines = str(refusal.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("policy `send': ") for line in lines)
    for document in ("", "{", "\ud800", "null", '{"Statement": []}', "\0", MAY_SEND):
        with pytest.raises(RefusedChangeError, match="policy `send'"):
            await put(store, document)
        assert check_policy(IDENTITY, "send", document, siblings=()).problems
    assert await notes(store) == before
    assert not await current(store)


async def test_a_policy_names_the_identity_that_it_stands_at(
    store: DirectoryStore, acme: str
) -> None:
    for other in (sender_policy("other.example"), sender_policy(account_id=OTHER)):
        with pytest.raises(RefusedChangeError, match="must be exactly"):
            await put(store, other)


async def test_only_what_is_there_has_policies(store: DirectoryStore, acme: str) -> None:
    """Else a policy would wait for an identity that another account registers later."""
    places = [
        (identity_place("new.example"), sender_policy("new.example")),
        (identity_place(account_id=OTHER), sender_policy(account_id=OTHER)),
        (PolicyOwner.of_user(ACME, "nobody"), MAY_SEND),
        (PolicyOwner.of_user(OTHER, "mailer"), MAY_SEND),
    ]
    for place, document in places:
        with pytest.raises(NotFoundError, match=r"there is no (user|identity)"):
            await put(store, document, place=place)


async def test_a_user_has_its_policies_in_whatever_letter_case(
    store: DirectoryStore, acme: str
) -> None:
    await put(store, MAY_SEND, place=PolicyOwner.of_user(ACME, "MAILER"))
    (row,) = await current(store, USER)
    assert row.document == MAY_SEND
