"""Users: how they are made, changed and deleted, and what is refused."""

from typing import Any, Final

import pytest

from smtpgate.directory.change import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.keys import access_key_page
from smtpgate.directory.policies import MAY_SEND, PolicyOwner, policies_of, policy_history
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import (
    UserRow,
    delete_user,
    update_user,
    user,
    user_page,
)
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.tenants import ACME, OTHER, add_account, add_key, add_user, notes


async def read(store: DirectoryStore, name: str = "mailer", account_id: str = ACME) -> UserRow:
    async with store.reading() as connection:
        return await user(connection, account_id, name)


async def change(
    store: DirectoryStore, changes: dict[str, Any], name: str = "mailer"
) -> UserRow:
    async with store.changing(ACTOR) as made:
        return await update_user(made, ACME, name, changes)


async def delete(store: DirectoryStore, name: str = "mailer") -> None:
    async with store.changing(ACTOR) as made:
        await delete_user(made, ACME, name)


async def test_what_was_made_is_read_back(store: DirectoryStore, clock: MovableClock) -> None:
    await add_account(store)
    tags = {"team": "Newsletter ☃", "cost:center": "", "Stra\u00dfe": "x" * 256}
    made = await add_user(store, "Mailer+1@x=y", path="/a/b/", tags=tags)
    assert await read(store, made.name) == made
    assert (made.tags, made.path, made.created_at) == (tags, "/a/b/", clock.now())


async def test_a_new_user_may_send_by_default(store: DirectoryStore) -> None:
    await add_account(store)
    one = await add_user(store, "one")
    other = await add_user(store, "other", may_send=False)
    async with store.reading() as connection:
        assert [row.document for row in await policies_of(connection, one.policies)] == [
            MAY_SEND
        ]
        assert not await policies_of(connection, other.policies)


async def test_every_user_has_an_id_of_its_own_also_when_it_comes_back(
    store: DirectoryStore,
) -> None:
    await add_account(store)
    await add_account(store, OTHER)
    first = await add_user(store)
    await delete(store)
    ids = {
        first.unique_id,
        (await add_user(store)).unique_id,
        (await add_user(store, account_id=OTHER)).unique_id,
    }
    assert len(ids) == 3
    assert all(len(one) == 21 and one.startswith("AIDA") for one in ids)


async def test_a_user_is_one_in_whatever_letter_case(store: DirectoryStore) -> None:
    await add_account(store)
    made = await add_user(store, "Mailer")
    for spelling in ("mailer", "MAILER", "Mailer"):
        assert await read(store, spelling) == made
        with pytest.raises(ConflictError, match=f"user {ACME}/Mailer already exists"):
            await add_user(store, spelling)
    assert (await change(store, {"path": "/x/"}, "mAILER")).name == "Mailer"
    key = await add_key(store, user_name="MAILER")
    assert key.user_name == "Mailer"
    assert {note.name for note in await notes(store) if note.kind == "user"} == {"Mailer"}
    await delete(store, "mailer")
    with pytest.raises(NotFoundError):
        await read(store, "Mailer")


async def test_accounts_have_users_of_the_same_name(store: DirectoryStore) -> None:
    for account_id in (ACME, OTHER):
        await add_account(store, account_id)
        await add_user(store, account_id=account_id)
    await delete(store)
    assert (await read(store, account_id=OTHER)).account_id == OTHER


BAD_USERS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"name": ""}, "a user name has"),
    ({"name": "x" * 65}, "a user name has"),
    ({"name": "two words"}, "a user name has"),
    ({"name": "jürgen"}, "a user name has"),
    ({"name": "a/b"}, "a user name has"),
    ({"name": "a\0b"}, "a user name has"),
    ({"name": "mailer\n"}, "a user name has"),
    ({"path": ""}, "path is / or"),
    ({"path": "/a"}, "path is / or"),
    ({"path": "a/"}, "path is / or"),
    ({"path": "/ü/"}, "path is / or"),
    ({"path": f"/{'x' * 511}/"}, "path is / or"),
    ({"tags": {"": "x"}}, "a tag's key has"),
    ({"tags": {"a b": "x"}}, "a tag's key has"),
    ({"tags": {"x" * 129: "x"}}, "a tag's key has"),
    ({"tags": {"a": "x" * 257}}, "tag a: a text has at most 256"),
    ({"tags": {"a": "x\0y"}}, "tag a: a text must not contain control"),
    ({"tags": {"a": "\ud800"}}, "tag a: a text must not contain control"),
    ({"tags": {"a": "1", "A": "2"}}, "letter case only"),
    ({"tags": {f"t{number}": "" for number in range(51)}}, "at most 50 tags"),
]


async def test_what_a_user_cannot_have_is_refused(store: DirectoryStore) -> None:
    await add_account(store)
    made = await add_user(store, "one")
    before = await notes(store)
    for columns, said in BAD_USERS:
        with pytest.raises(RefusedChangeError, match=said):
            await add_user(store, **{"name": "another"} | columns)
        if "name" not in columns:
            with pytest.raises(RefusedChangeError, match=said):
                await change(store, columns, "one")
    assert await read(store, "one") == made
    assert await notes(store) == before


async def test_the_longest_names_and_the_most_tags_are_kept(store: DirectoryStore) -> None:
    await add_account(store)
    tags = {f"{number:03}{'k' * 125}": "v" * 256 for number in range(50)}
    made = await add_user(store, "N" * 64, path=f"/{'p' * 510}/", tags=tags)
    assert await read(store, "n" * 64) == made


async def test_a_user_needs_an_account(store: DirectoryStore) -> None:
    for account_id in (ACME, "", "a\0b"):
        with pytest.raises(NotFoundError, match="there is no account"):
            await add_user(store, account_id=account_id)


async def test_a_change_is_noted_with_before_and_after(store: DirectoryStore) -> None:
    await add_account(store)
    await add_user(store, tags={"team": "a"})
    await change(store, {"tags": {"team": "b"}})
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.account_id, note.name) == (
        "change", "user", ACME, "mailer",
    )  # fmt: skip
    assert note.before == {"path": "/", "tags": {"team": "a"}}
    assert note.after == {"path": "/", "tags": {"team": "b"}}


async def test_a_change_to_what_is_there_is_none(store: DirectoryStore) -> None:
    await add_account(store)
    made = await add_user(store, tags={"a": "1", "b": "2"})
    before = await notes(store)
    assert await change(store, {"tags": {"b": "2", "a": "1"}, "path": "/"}) == made
    assert await notes(store) == before


async def test_what_is_not_there_is_not_found(store: DirectoryStore) -> None:
    await add_account(store)
    for name in ("nobody", "", "a\0b", "\ud800", "%", "x" * 1000):
        for work in (read(store, name), delete(store, name), change(store, {}, name)):
            with pytest.raises(NotFoundError, match="there is no user"):
                await work


async def test_a_user_goes_with_its_keys_and_policies_and_nobody_elses(
    store: DirectoryStore,
) -> None:
    await add_account(store)
    for name in ("Mailer", "mailer2"):
        await add_user(store, name)
        for _ in range(2):
            await add_key(store, user_name=name)
    root = await add_key(store)
    seen = len(await notes(store))
    await delete(store, "MAILER")
    async with store.reading() as connection:
        left = await access_key_page(connection, ACME)
        assert {row.user_name for row in left} == {None, "mailer2"}
        assert root in left
        assert not await policies_of(connection, PolicyOwner.of_user(ACME, "Mailer"))
        assert await policies_of(connection, PolicyOwner.of_user(ACME, "mailer2"))
    output = [(note.action, note.kind) for note in (await notes(store))[seen:]]
    assert output == [
        ("delete", "key"), ("delete", "key"), ("delete-policy", "user"), ("delete", "user"),
    ]  # fmt: skip


async def test_the_policies_of_a_user_that_came_back_go_on_with_its_history(
    store: DirectoryStore,
) -> None:
    await add_account(store)
    await add_user(store)
    await delete(store)
    await add_user(store, may_send=True)
    async with store.reading() as connection:
        place = PolicyOwner.of_user(ACME, "mailer")
        history = await policy_history(connection, place, "may-send")
    assert [(row.version, row.document) for row in history] == [
        (3, MAY_SEND), (2, None), (1, MAY_SEND),
    ]  # fmt: skip


async def test_users_are_reported_in_pages(store: DirectoryStore) -> None:
    for account_id in (OTHER, ACME):
        await add_account(store, account_id)
        for name in ("b", "C", "a"):
            await add_user(store, name, account_id)
    found: list[tuple[str, str]] = []
    async with store.reading() as connection:
        after = ("", "")
        while page := await user_page(connection, after=after, limit=2):
            found += [(row.account_id, row.name) for row in page]
            after = (page[-1].account_id, page[-1].key)
        assert found == [(one, name) for one in (ACME, OTHER) for name in ("a", "b", "C")]
        of_one = await user_page(connection, OTHER, after=(OTHER, "a"), limit=5)
        assert [(row.account_id, row.name) for row in of_one] == [(OTHER, "b"), (OTHER, "C")]
