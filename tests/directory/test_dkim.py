"""DKIM keys: checked, sealed, one a selector, of domain identities only."""

from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import select

from smtpgate.directory.change import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.dkim import (
    DkimKeyRow,
    delete_dkim_key,
    dkim_key,
    dkim_keys_of,
    private_key_context,
    update_dkim_key,
)
from smtpgate.directory.schema import dkim_keys
from smtpgate.directory.sealing import SealError
from smtpgate.directory.store import DirectoryStore
from smtpgate.signing.private_keys import generate_private_key
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.tenants import (
    ACME,
    OTHER,
    PEM,
    add_account,
    add_identity,
    notes,
    raw,
    signing_key,
)
from tests.support.world import REGION

RSA: Final = generate_private_key("rsa")


async def read(store: DirectoryStore, selector: str = "one") -> DkimKeyRow:
    async with store.reading() as connection:
        return await dkim_key(connection, ACME, REGION, "example.com", selector)


async def change(store: DirectoryStore, changes: dict[str, Any], action: str) -> DkimKeyRow:
    async with store.changing(ACTOR) as made:
        before = await dkim_key(made.connection, ACME, REGION, "example.com", "one")
        return await update_dkim_key(made, before, changes, action=action)


@pytest.fixture
async def domain(store: DirectoryStore) -> str:
    """A domain identity."""
    await add_account(store)
    return (await add_identity(store)).name


@pytest.mark.parametrize(("pem", "algorithm"), [(PEM, "ed25519-sha256"), (RSA, "rsa-sha256")])
async def test_what_was_added_is_read_back(
    store: DirectoryStore, domain: str, clock: MovableClock, pem: bytes, algorithm: str
) -> None:
    made = await signing_key(
        store,
        "One.X",
        pem=pem,
        stage="pending",
        problem="no record",
        since=clock.now() - timedelta(days=1),
        alarm_since=clock.now(),
        checked_at=clock.now(),
        next_check_at=clock.now() + timedelta(microseconds=1),
    )
    assert await read(store, "one.x") == made
    assert await read(store, "ONE.X") == made
    assert (made.selector, made.algorithm, made.created_at) == ("one.x", algorithm, clock.now())
    assert made.record.startswith(f"v=DKIM1; k={algorithm.partition('-')[0]}; p=")
    assert made.dns_name == "one.x._domainkey.example.com"


async def test_private_keys_are_sealed_and_stand_nowhere_else(
    store: DirectoryStore, domain: str
) -> None:
    made = await signing_key(store)
    async with store.reading() as connection:
        sealed = (await connection.execute(select(dkim_keys.c.private_key))).scalar_one()
    assert b"PRIVATE KEY" not in sealed
    assert store.master_keys.open(sealed, private_key_context(made)) == PEM
    assert "PRIVATE KEY" not in repr(await notes(store))
    assert "PRIVATE KEY" not in repr(made)


async def test_a_private_key_that_was_copied_elsewhere_does_not_open(
    store: DirectoryStore, domain: str
) -> None:
    await signing_key(store, "one")
    other = await signing_key(store, "two", pem=RSA)
    await raw(
        store,
        "UPDATE dkim_keys SET private_key = "
        "(SELECT private_key FROM dkim_keys WHERE selector = 'one') WHERE selector = 'two'",
    )
    async with store.reading() as connection:
        query = select(dkim_keys.c.private_key).where(dkim_keys.c.selector == "two")
        sealed = (await connection.execute(query)).scalar_one()
    with pytest.raises(SealError):
        store.master_keys.open(sealed, private_key_context(other))


BAD_PEMS: Final = (
    (b"", "not a private key in PEM"),
    (
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "not a private key in PEM",
    ),
    (b"\xff\0", "not a private key in PEM"),
)


async def test_what_is_no_private_key_is_refused(store: DirectoryStore, domain: str) -> None:
    for pem, said in BAD_PEMS:
        with pytest.raises(RefusedChangeError, match=said):
            await signing_key(store, pem=pem)
    assert not [note for note in await notes(store) if note.action == "add-dkim-key"]


async def test_what_is_no_selector_is_refused(store: DirectoryStore, domain: str) -> None:
    too_long = ".".join(["x" * 60] * 4)
    for selector in (
        "",
        "a b",
        "a..b",
        "x" * 64,
        "a\0b",
        "\ud800",
        "-a",
        "[192.0.2.1]",
        too_long,
    ):
        with pytest.raises(RefusedChangeError, match="is no selector"):
            await signing_key(store, selector)


async def test_a_selector_is_taken_once_in_whatever_letter_case(
    store: DirectoryStore, domain: str
) -> None:
    made = await signing_key(store, "one")
    for spelling in ("one", "ONE"):
        with pytest.raises(ConflictError, match="has a DKIM key `one' already"):
            await signing_key(store, spelling, pem=RSA)
    assert await read(store) == made
    # Another account's is its own.
    await add_account(store, OTHER)
    await add_identity(store, account_id=OTHER)
    await signing_key(store, "one", account_id=OTHER)


async def test_only_a_domain_that_is_there_has_keys(store: DirectoryStore, domain: str) -> None:
    await add_identity(store, "ceo@example.com")
    with pytest.raises(RefusedChangeError, match="signed for with the keys of its domain"):
        await signing_key(store, domain="ceo@example.com")
    for name in ("new.example", "\ud800"):
        with pytest.raises(NotFoundError, match="there is no identity"):
            await signing_key(store, domain=name)


async def test_the_domain_may_be_written_in_any_letter_case(
    store: DirectoryStore, domain: str
) -> None:
    made = await signing_key(store, domain="Example.COM")
    assert made.domain == "example.com"
    assert await read(store) == made


async def test_a_step_is_noted_and_a_check_is_not(
    store: DirectoryStore, domain: str, clock: MovableClock
) -> None:
    await signing_key(store, stage="pending")
    seen = len(await notes(store))
    checked = {"checked_at": clock.now(), "problem": "no record"}
    assert (await change(store, checked, "check")).problem == "no record"
    assert len(await notes(store)) == seen
    clock.move(60)
    await change(store, {"stage": "active", "since": clock.now()}, "activate")
    (note,) = (await notes(store))[seen:]
    assert (note.action, note.kind, note.account_id, note.name) == (
        "activate", "identity", ACME, "example.com",
    )  # fmt: skip
    facts = {"selector": "one", "algorithm": "ed25519-sha256", "alarm_since": None}
    assert note.before == facts | {"stage": "pending"}
    assert note.after == facts | {"stage": "active"}
    assert (await read(store)).since == clock.now()


async def test_a_key_is_taken_away(store: DirectoryStore, domain: str) -> None:
    await signing_key(store, "one")
    two = await signing_key(store, "two")
    async with store.changing(ACTOR) as made:
        await delete_dkim_key(
            made, await dkim_key(made.connection, ACME, REGION, domain, "one")
        )
    async with store.reading() as connection:
        assert await dkim_keys_of(connection, ACME, REGION, domain) == [two]
    with pytest.raises(NotFoundError, match="has no DKIM key `one'"):
        await read(store)
    note = (await notes(store))[-1]
    assert (note.action, note.before["selector"], note.after) == (
        "delete-dkim-key",
        "one",
        None,
    )
