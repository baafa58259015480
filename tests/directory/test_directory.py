"""The answers of every directory, with its accounts in any store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from smtpgate.core.account import SendingLimits
from smtpgate.core.secret import Secret
from smtpgate.directory.policies import MAY_SEND, PolicyOwner, put_policy
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Directory
from smtpgate.signing.private_keys import generate_private_key
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.directory import ACTOR, live, open_store
from tests.support.tenants import (
    add_account,
    add_identity,
    add_key,
    add_user,
    identity_place,
    sender_policy,
    signing_key,
)
from tests.support.world import DELEGATE, OWNER, PAUSED
from tests.support.world import IDENTITY as ARN

RSA: Final = generate_private_key("rsa")


async def fill(store: DirectoryStore) -> None:
    """The announcement's two accounts, a paused one, and a domain that two accounts claim."""
    await add_account(store, OWNER, name="Identity owner")
    await add_key(store, "AKIA8888ROOT00000001", OWNER, secret="root's secret")
    await add_identity(store, "SES-Example.com", OWNER)
    await add_identity(store, "Ceo@ses-example.com", OWNER)
    await add_identity(store, "new.example", OWNER, state="pending")
    async with store.changing(ACTOR) as change:
        policy = sender_policy("ses-example.com", OWNER, delegate=DELEGATE)
        place = identity_place("ses-example.com", OWNER)
        await put_policy(change, place, "marketing", policy)
    await signing_key(store, "one", "ses-example.com", OWNER)
    await signing_key(store, "two", "ses-example.com", OWNER, pem=RSA)
    await signing_key(store, "next", "ses-example.com", OWNER, stage="pending")

    limits = {"max_24h_send": -1, "max_send_rate_per_s": 2.5}
    await add_account(store, DELEGATE, name="Delegate sender", **limits)
    await add_user(store, "mailer", DELEGATE, path="/team-a/", may_send=False)
    async with store.changing(ACTOR) as change:
        await put_policy(change, PolicyOwner.of_user(DELEGATE, "mailer"), "send", MAY_SEND)
    for number, is_active in ((1, True), (2, False)):
        await add_key(
            store,
            f"AKIA9999MAILER00000{number}",
            DELEGATE,
            user_name="mailer",
            secret="mailer's secret",
            is_active=is_active,
        )
    await add_identity(store, "ses-example.com", DELEGATE, state="pending")

    await add_account(store, PAUSED, paused_reason="too many complaints")
    await add_user(store, "mailer", PAUSED)
    await add_key(store, "AKIA7777MAILER000001", PAUSED, user_name="mailer")


@asynccontextmanager
async def in_a_database(databases: Databases) -> AsyncIterator[Directory]:
    """Answers from memory and, what is not there, from a database."""
    clock = MovableClock()
    async with open_store(databases.fresh(), clock=clock) as store:
        await fill(store)
        directory = live(store, clock)
        await directory.start()
        try:
            yield directory
        finally:
            await directory.stop()


DIRECTORIES: Final = {"live": in_a_database}


@pytest.fixture(params=list(DIRECTORIES))
async def directory(
    request: pytest.FixtureRequest, databases: Databases
) -> AsyncIterator[Directory]:
    async with DIRECTORIES[request.param](databases) as opened:
        yield opened


async def test_a_key_leads_to_its_user_with_policies_and_limits(directory: Directory) -> None:
    key = await directory.access_key("AKIA9999MAILER000001")
    assert key is not None
    assert key.is_active
    assert key.secret == Secret("mailer's secret")
    principal = key.principal
    assert principal.user_name == "mailer"
    assert principal.arn == "arn:aws:iam::999999999999:user/team-a/mailer"
    assert [policy.name for policy in principal.policies] == ["send"]
    assert principal.account.name == "Delegate sender"
    assert principal.account.limits == SendingLimits(-1, 2.5)
    assert principal.account.paused_reason is None


async def test_the_key_of_an_account_itself_leads_to_its_root(directory: Directory) -> None:
    key = await directory.access_key("AKIA8888ROOT00000001")
    assert key is not None
    assert key.principal.is_root
    assert key.principal.arn == "arn:aws:iam::888888888888:root"
    assert key.principal.account.limits == SendingLimits(200, 1)


async def test_an_inactive_key_is_found_and_lets_nobody_in(directory: Directory) -> None:
    key = await directory.access_key("AKIA9999MAILER000002")
    assert key is not None
    assert not key.is_active


async def test_a_paused_account_says_why(directory: Directory) -> None:
    key = await directory.access_key("AKIA7777MAILER000001")
    assert key is not None
    assert key.principal.account.paused_reason == "too many complaints"


async def test_an_unknown_key_is_none(directory: Directory) -> None:
    for key_id in ("", "AKIA0000NOBODY000000", "akia9999mailer000001", "a\0b", "\ud800"):
        for _ in range(2):
            assert await directory.access_key(key_id) is None


async def test_users_of_one_name_in_two_accounts_have_ids_of_their_own(
    directory: Directory,
) -> None:
    one = await directory.access_key("AKIA9999MAILER000001")
    other = await directory.access_key("AKIA7777MAILER000001")
    assert one is not None
    assert other is not None
    ids = {one.principal.user_id, other.principal.user_id}
    assert len(ids) == 2
    assert all(len(user_id) == 21 and user_id.startswith("AIDA") for user_id in ids)


async def test_every_account_that_claims_a_name_is_reported(directory: Directory) -> None:
    found = {
        identity.owner_id: identity
        for identity in await directory.identities("ses-example.com")
    }
    assert set(found) == {OWNER, DELEGATE}
    assert found[OWNER].is_verified
    assert not found[DELEGATE].is_verified


async def test_an_identity_has_its_policies_and_keys(directory: Directory) -> None:
    identity = (await directory.identities("ses-example.com"))[0]
    assert str(identity.arn) == ARN
    assert [policy.name for policy in identity.policies] == ["marketing"]
    assert [(key.selector, key.private_key.algorithm) for key in identity.dkim_keys] == [
        ("one", "ed25519-sha256"),
        ("two", "rsa-sha256"),
    ]
    assert len({key.private_key.sign(b"\x01" * 32) for key in identity.dkim_keys}) == 2


async def test_what_is_not_said_to_be_verified_is_not(directory: Directory) -> None:
    (identity,) = await directory.identities("new.example")
    assert not identity.is_verified


async def test_only_the_very_name_is_found(directory: Directory) -> None:
    for name in ("", "example.com", "sub.ses-example.com", "ceo@ses-example.com", "com"):
        for _ in range(2):
            assert not await directory.identities(name)


async def test_the_local_part_of_an_address_keeps_its_letter_case(directory: Directory) -> None:
    (identity,) = await directory.identities("Ceo@ses-example.com")
    assert not identity.is_domain


async def test_the_same_is_answered_again(directory: Directory) -> None:
    """The second answer comes another way than the first."""
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: directory.access_key("AKIA9999MAILER000001"),
        lambda: directory.access_key("AKIA8888ROOT00000001"),
        lambda: directory.identities("ses-example.com"),
        lambda: directory.identities("Ceo@ses-example.com"),
        lambda: directory.identities("someone@ses-example.com"),
    ]
    for ask in questions:
        assert await ask() == await ask()


async def test_a_server_tells_its_time_and_a_file_has_none(store: DirectoryStore) -> None:
    seen = await store.database.now()
    if store.database.is_sqlite:
        assert seen is None
    else:
        assert seen is not None
        assert abs(datetime.now(UTC) - seen) < timedelta(minutes=1)
