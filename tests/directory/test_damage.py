"""Rows that cannot be used whole are not used at all."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Final

import pytest

from smtpgate.core.account import AccessKey
from smtpgate.core.identity import Identity
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.policies import put_policy
from smtpgate.directory.sealing import new_master_key
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import DirectoryUnavailableError
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, MASTER_KEYS, live, open_store
from tests.support.tenants import (
    add_account,
    add_identity,
    add_key,
    add_user,
    identity_place,
    raw,
    sender_policy,
    signing_key,
)

KEY: Final = "AKIAACME000000000001"
OTHER_KEY: Final = "AKIAACME000000000002"
Ask = Callable[[LiveDirectory], Awaitable[AccessKey | Sequence[Identity] | None]]


@pytest.fixture
async def directory(store: DirectoryStore, clock: MovableClock) -> LiveDirectory:
    """Two users with a key each, and two domains with a policy and a DKIM key each."""
    await add_account(store)
    for key_id, name in ((KEY, "mailer"), (OTHER_KEY, "other")):
        await add_user(store, name)
        await add_key(store, key_id, user_name=name, secret=f"the secret of {name}")
    for name in ("example.com", "other.example"):
        await add_identity(store, name)
        await signing_key(store, "one", name)
        async with store.changing(ACTOR) as change:
            await put_policy(change, identity_place(name), "send", sender_policy(name))
    directory = live(store, clock)
    await directory.catch_up()
    return directory


def key(directory: LiveDirectory) -> Awaitable[AccessKey | None]:
    return directory.access_key(KEY)


def domain(directory: LiveDirectory) -> Awaitable[Sequence[Identity]]:
    return directory.identities("example.com")


OF_KEY, OF_DOMAIN = f"access key {KEY}: ", "identity example.com: "
# The changes that a user with a prompt at the database can make, on either kind of it.
DAMAGES: Final[list[tuple[str, str, Ask, str]]] = [
    (
        "a secret was changed",
        f"UPDATE access_keys SET secret = :octets WHERE id = '{KEY}'",
        key,
        f"{OF_KEY}is damaged",
    ),
    (
        "a secret was sealed for another key",
        f"UPDATE access_keys SET secret = (SELECT secret FROM access_keys WHERE id = "
        f"'{OTHER_KEY}') WHERE id = '{KEY}'",
        key,
        f"{OF_KEY}cannot be opened with master key m1",
    ),
    (
        "a private key was sealed for another domain",
        "UPDATE dkim_keys SET private_key = (SELECT private_key FROM dkim_keys WHERE domain = "
        "'other.example') WHERE domain = 'example.com'",
        domain,
        f"{OF_DOMAIN}cannot be opened with master key m1",
    ),
    (
        "a user's policy is no policy",
        "UPDATE policies SET document = '{\"Statement\": [' WHERE subject = 'mailer'",
        key,
        OF_KEY,
    ),
    (
        "an identity's policy has an operator that nobody knows",
        "UPDATE policies SET document = replace(document, '\"Sid\"', "
        '\'"Condition": {"StringEqualz": {"ses:FromAddress": "x"}}, "Sid"\') '
        "WHERE subject = 'example.com'",
        domain,
        OF_DOMAIN,
    ),
    (
        "networks are no networks",
        f"UPDATE access_keys SET networks = '[\"everywhere\"]' WHERE id = '{KEY}'",
        key,
        OF_KEY,
    ),
    (
        "networks are no list",
        f"UPDATE access_keys SET networks = '5' WHERE id = '{KEY}'",
        key,
        OF_KEY,
    ),
    (
        "certificates are no pins",
        f"UPDATE access_keys SET certificates = '[\"\"]' WHERE id = '{KEY}'",
        key,
        OF_KEY,
    ),
    (
        "certificates are no list",
        f"UPDATE access_keys SET certificates = '5' WHERE id = '{KEY}'",
        key,
        OF_KEY,
    ),
    (
        "tags are no table",
        "UPDATE users SET tags = '[\"team\"]' WHERE key = 'mailer'",
        key,
        OF_KEY,
    ),
]


@pytest.mark.parametrize(
    ("statement", "ask", "says"),
    [case[1:] for case in DAMAGES],
    ids=[case[0] for case in DAMAGES],
)
async def test_what_cannot_be_used_whole_is_unavailable_and_nothing_else_is(
    store: DirectoryStore, directory: LiveDirectory, statement: str, ask: Ask, says: str
) -> None:
    octets = {"octets": b"what else"} if ":octets" in statement else {}
    await raw(store, statement, **octets)
    for _ in range(2):
        with pytest.raises(DirectoryUnavailableError) as refusal:
            await ask(directory)
        assert str(refusal.value).startswith(says)
        assert "secret of" not in str(refusal.value)
        assert "PRIVATE" not in str(refusal.value)
    assert await directory.access_key(OTHER_KEY) is not None
    (other,) = await directory.identities("other.example")
    assert len(other.policies) == len(other.dkim_keys) == 1
    assert directory.problem is None


async def test_it_is_available_again_once_it_was_put_right(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    await raw(store, "UPDATE policies SET document = '{}' WHERE subject = 'example.com'")
    with pytest.raises(DirectoryUnavailableError):
        await domain(directory)
    async with store.changing(ACTOR) as change:
        policy = sender_policy(sid="Right")
        await put_policy(change, identity_place(), "send", policy, expected_version=1)
    (found,) = await domain(directory)
    assert [policy.name for policy in found.policies] == ["send"]


async def test_the_key_of_a_user_that_is_not_there_is_not_the_roots(
    store: DirectoryStore, directory: LiveDirectory
) -> None:
    """The database keeps both together; where that was switched off, nobody gets more."""
    statement, path = "DELETE FROM users WHERE key = 'mailer'", store.database.path
    if path is not None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)  # that module does not switch it on
    else:
        await raw(store, "ALTER TABLE users DISABLE TRIGGER ALL")
        await raw(store, statement)
    with pytest.raises(DirectoryUnavailableError, match=f"{OF_KEY}its user is not there"):
        await key(directory)


async def test_what_is_under_a_master_key_that_is_gone_is_unavailable(
    store: DirectoryStore, directory: LiveDirectory, clock: MovableClock
) -> None:
    url = store.database.url.render_as_string(hide_password=False)
    await raw(store, "DELETE FROM master_keys")  # or the file would not be taken
    async with open_store(url, clock=clock, master_keys=new_master_key("m2")) as other:
        without = live(other, clock)
        await without.catch_up()
        says = f"{OF_KEY}is sealed under master key m1, which is not in the file"
        with pytest.raises(DirectoryUnavailableError, match=says):
            await key(without)
        with pytest.raises(DirectoryUnavailableError, match="is sealed under master key m1"):
            await domain(without)
        assert await without.identities("new.example") == ()
    assert MASTER_KEYS.split()[0] == "m1"
