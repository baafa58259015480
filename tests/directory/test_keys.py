"""Access keys: two active ones an owner, their secrets sealed, their uses written down."""

from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import select

from smtpgate.core.secret import Secret
from smtpgate.directory.change import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.keys import (
    AccessKeyRow,
    KeyUse,
    access_key,
    access_key_page,
    delete_access_key,
    new_secret,
    note_uses,
    replace_secret,
    secret_context,
    update_access_key,
)
from smtpgate.directory.schema import access_keys
from smtpgate.directory.sealing import SealError
from smtpgate.directory.store import DirectoryStore
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.tenants import ACME, OTHER, add_account, add_key, add_user, notes, raw

KEY: Final = "AKIAACME000000000001"


async def read(store: DirectoryStore, key_id: str = KEY) -> AccessKeyRow:
    async with store.reading() as connection:
        return await access_key(connection, key_id)


async def change(
    store: DirectoryStore, changes: dict[str, Any], key_id: str = KEY
) -> AccessKeyRow:
    async with store.changing(ACTOR) as made:
        return await update_access_key(made, key_id, changes)


async def sealed(store: DirectoryStore, key_id: str = KEY) -> bytes:
    async with store.reading() as connection:
        query = select(access_keys.c.secret).where(access_keys.c.id == key_id)
        octets: bytes = (await connection.execute(query)).scalar_one()
        return octets


@pytest.fixture
async def acme(store: DirectoryStore) -> str:
    """An account with two users."""
    await add_account(store)
    await add_user(store, "Mailer")
    await add_user(store, "other")
    return ACME


async def test_what_was_made_is_read_back(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    made = await add_key(
        store,
        KEY,
        acme,
        user_name="mailer",
        expires_at=clock.now() + timedelta(days=90, microseconds=1),
        networks=("192.0.2.0/24", "2001:db8::/32", "198.51.100.7"),
    )
    assert await read(store) == made
    assert made.created_at == clock.now()
    assert made.networks == ("192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32")
    assert (made.user_name, made.owner) == ("Mailer", f"{ACME}/Mailer")


async def test_a_key_without_an_id_gets_one(store: DirectoryStore, acme: str) -> None:
    ids = {(await add_key(store, user_name=name)).id for name in (None, "mailer", "other")}
    assert len(ids) == 3
    assert all(len(one) == 20 and one.startswith("AKIA") for one in ids)


async def test_secrets_are_sealed_and_stand_nowhere_else(
    store: DirectoryStore, acme: str
) -> None:
    await add_key(store, KEY, secret="a secret of the trade")
    octets = await sealed(store)
    assert b"secret of the trade" not in octets
    assert store.master_keys.open(octets, secret_context(KEY)) == b"a secret of the trade"
    assert "trade" not in repr(await notes(store))
    assert "trade" not in repr(await read(store))


async def test_a_secret_that_was_copied_to_another_key_does_not_open(
    store: DirectoryStore, acme: str
) -> None:
    await add_key(store, KEY)
    other = await add_key(store)
    await raw(
        store,
        "UPDATE access_keys SET secret = (SELECT secret FROM access_keys WHERE id = :of) "
        "WHERE id = :at",
        of=KEY,
        at=other.id,
    )
    octets = await sealed(store, other.id)
    with pytest.raises(SealError):
        store.master_keys.open(octets, secret_context(other.id))


async def test_new_secrets_are_new_and_long(store: DirectoryStore) -> None:
    secrets = {new_secret().value for _ in range(100)}
    assert len(secrets) == 100
    assert {len(one) for one in secrets} == {40}


@pytest.mark.parametrize("owner", ["Mailer", None])
async def test_an_owner_has_two_active_keys_at_most(
    store: DirectoryStore, acme: str, owner: str | None
) -> None:
    first, second = [await add_key(store, user_name=owner) for _ in range(2)]
    for spelling in (owner, owner and owner.lower()):
        with pytest.raises(ConflictError, match="has 2 active access keys, the most it may"):
            await add_key(store, user_name=spelling)
    # An inactive one is no matter, until it is to become active.
    third = await add_key(store, user_name=owner, is_active=False)
    with pytest.raises(ConflictError, match="has 2 active access keys"):
        await change(store, {"is_active": True}, third.id)
    await change(store, {"is_active": False}, first.id)
    assert (await change(store, {"is_active": True}, third.id)).is_active
    async with store.changing(ACTOR) as made:
        await delete_access_key(made, second.id)
    await add_key(store, user_name=owner)
    # Others have room of their own.
    await add_key(store, user_name="other")
    await add_key(store, user_name="Mailer" if owner is None else None)


async def test_accounts_do_not_share_their_roots_two_keys(
    store: DirectoryStore, acme: str
) -> None:
    await add_account(store, OTHER)
    for account_id in (acme, OTHER, acme, OTHER):
        await add_key(store, account_id=account_id)


async def test_a_key_is_made_once_in_the_whole_directory(
    store: DirectoryStore, acme: str
) -> None:
    await add_account(store, OTHER)
    made = await add_key(store, KEY, secret="the first")
    with pytest.raises(ConflictError, match=f"access key {KEY} already exists"):
        await add_key(store, KEY, OTHER, secret="the second")
    assert await read(store) == made
    assert store.master_keys.open(await sealed(store), secret_context(KEY)) == b"the first"


async def test_a_key_needs_its_owner(store: DirectoryStore, acme: str) -> None:
    with pytest.raises(NotFoundError, match="there is no account"):
        await add_key(store, account_id=OTHER)
    for name in ("nobody", "", "a\0b", "\ud800"):
        with pytest.raises(NotFoundError, match="there is no user"):
            await add_key(store, user_name=name)


BAD_KEYS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"key_id": "AKIA"}, "16 to 128 upper-case letters"),
    ({"key_id": "akiaacme000000000001"}, "16 to 128 upper-case letters"),
    ({"key_id": "A" * 129}, "16 to 128 upper-case letters"),
    ({"key_id": "AKIAACME00000000000\0"}, "16 to 128 upper-case letters"),
    ({"networks": ("192.0.2.1/24",)}, "host bits set"),
    ({"networks": ("nowhere",)}, "is not a network such as"),
    ({"networks": ("::ffff:192.0.2.0/120",)}, "IPv4-mapped IPv6"),
    ({"networks": tuple(f"192.0.2.{host}" for host in range(101))}, "at most 100 networks"),
    ({"certificates": (f"sha256:{'0A' * 32}",)}, "is not the pin of a certificate"),
    ({"certificates": ("0a" * 32,)}, "is not the pin of a certificate"),
    ({"certificates": ("",)}, "is not the pin of a certificate"),
    ({"certificates": (f"sha256:{'0a' * 32}\n",)}, "is not the pin of a certificate"),
    ({"certificates": tuple(f"sha256:{at:064x}" for at in range(11))}, "at most 10 certif"),
]


async def test_what_a_key_cannot_have_is_refused(store: DirectoryStore, acme: str) -> None:
    made = await add_key(store, KEY)
    for columns, said in BAD_KEYS:
        with pytest.raises(RefusedChangeError, match=said):
            await add_key(store, **columns)
        if "key_id" not in columns:
            with pytest.raises(RefusedChangeError, match=said):
                await change(store, columns)
    assert await read(store) == made


async def test_a_secret_that_cannot_be_one_is_refused(store: DirectoryStore, acme: str) -> None:
    await add_key(store, KEY, secret="the first")
    for secret in ("", "\ud800"):
        with pytest.raises(RefusedChangeError, match="its secret"):
            await add_key(store, secret=secret)
        with pytest.raises(RefusedChangeError, match="its secret"):
            async with store.changing(ACTOR) as made:
                await replace_secret(made, store.master_keys, KEY, Secret(secret))
    assert store.master_keys.open(await sealed(store), secret_context(KEY)) == b"the first"


async def test_networks_are_kept_once_each(store: DirectoryStore, acme: str) -> None:
    made = await add_key(store, KEY, networks=("192.0.2.7", "192.0.2.7/32", "::1"))
    assert made.networks == ("192.0.2.7/32", "::1/128")


async def test_certificates_are_kept_once_each_and_noted(
    store: DirectoryStore, acme: str
) -> None:
    one, other = (f"sha256:{at:064x}" for at in (1, 2))
    made = await add_key(store, KEY, certificates=(one, other, one))
    assert made.certificates == (one, other)
    assert await read(store) == made
    assert (await change(store, {"certificates": ()})).certificates == ()
    note = (await notes(store))[-1]
    assert note.before is not None
    assert note.before["certificates"] == [one, other]


async def test_a_key_that_has_expired_can_still_be_changed(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    await add_key(store, KEY, expires_at=clock.now() + timedelta(hours=1))
    clock.move(7200)
    assert not (await change(store, {"is_active": False})).is_active
    assert (await change(store, {"expires_at": None})).expires_at is None


async def test_a_change_is_noted_with_before_and_after(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    await add_key(store, KEY, user_name="mailer")
    expires_at = clock.now() + timedelta(days=1)
    await change(
        store, {"is_active": False, "expires_at": expires_at, "networks": ("192.0.2.7",)}
    )
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.account_id, note.name) == ("change", "key", ACME, KEY)
    owner = f"{ACME}/Mailer"
    assert note.before == {
        "owner": owner, "is_active": True, "expires_at": None, "networks": [],
    }  # fmt: skip
    assert note.after == {
        "owner": owner,
        "is_active": False,
        "expires_at": expires_at.isoformat(),
        "networks": ["192.0.2.7/32"],
    }


async def test_a_change_to_what_is_there_is_none(store: DirectoryStore, acme: str) -> None:
    made = await add_key(store, KEY, networks=("192.0.2.7",))
    before = await notes(store)
    assert await change(store, {"is_active": True, "networks": ["192.0.2.7"]}) == made
    assert await notes(store) == before


async def test_what_is_not_there_is_not_found(store: DirectoryStore, acme: str) -> None:
    for key_id in ("AKIANOBODY0000000000", "", KEY.lower(), "a\0b", "\ud800"):
        for work in (read(store, key_id), change(store, {"is_active": False}, key_id)):
            with pytest.raises(NotFoundError, match="there is no access key"):
                await work


async def test_keys_are_reported_in_pages(store: DirectoryStore, acme: str) -> None:
    await add_account(store, OTHER)
    ids = [f"AKIA{number:016}" for number in (3, 1, 2)]
    for key_id in ids:
        await add_key(store, key_id, is_active=False)
    await add_key(store, f"AKIA{4:016}", OTHER)
    async with store.reading() as connection:
        found, after = [], ""
        while page := await access_key_page(connection, after=after, limit=2):
            found += [row.id for row in page]
            after = page[-1].id
        assert found == [*sorted(ids), f"AKIA{4:016}"]
        of_one = await access_key_page(connection, acme, after=f"AKIA{1:016}")
        assert [row.id for row in of_one] == [f"AKIA{2:016}", f"AKIA{3:016}"]


async def test_the_latest_use_is_written_down_and_is_no_change(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    await add_key(store, KEY)
    noted, now = await notes(store), clock.now()
    uses = [
        KeyUse(KEY, now, "192.0.2.7"),
        KeyUse(KEY, now + timedelta(seconds=1), "2001:db8::1"),
        KeyUse(KEY, now - timedelta(hours=1), "192.0.2.9"),
        KeyUse("AKIANOBODY0000000000", now, "192.0.2.9"),
    ]
    async with store.database.changing() as connection:
        await note_uses(connection, uses)
    row = await read(store)
    assert (row.last_used_at, row.last_used_from) == (now + timedelta(seconds=1), "2001:db8::1")
    assert await notes(store) == noted


async def test_an_address_of_any_length_is_written_down(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    await add_key(store, KEY)
    scoped = f"fe80::{'1' * 4}%{'interface' * 10}"
    async with store.database.changing() as connection:
        await note_uses(connection, [KeyUse(KEY, clock.now(), scoped)])
    assert (await read(store)).last_used_from == scoped[:45]


async def test_a_change_keeps_what_was_written_down_of_uses(
    store: DirectoryStore, acme: str, clock: MovableClock
) -> None:
    await add_key(store, KEY)
    async with store.database.changing() as connection:
        await note_uses(connection, [KeyUse(KEY, clock.now(), "192.0.2.7")])
    await change(store, {"is_active": False})
    assert (await read(store)).last_used_from == "192.0.2.7"


async def test_nothing_is_sealed_under_a_key_that_was_replaced(
    store: DirectoryStore, acme: str
) -> None:
    """Else a gate that still has the old file would make keys that nobody can open later."""
    await raw(store, "DELETE FROM master_keys")
    with pytest.raises(RefusedChangeError, match=r"master key m1 .* restart"):
        await add_key(store, KEY)
