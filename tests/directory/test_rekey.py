"""The master key replaced while gates run: everything is opened with the new one alone."""

import pytest

from smtpgate.core.secret import Secret
from smtpgate.directory.change import RefusedChangeError
from smtpgate.directory.keys import replace_secret
from smtpgate.directory.rekey import rekey
from smtpgate.directory.sealing import MasterKeyError, SealError, new_master_key
from smtpgate.directory.store import DirectoryStore
from tests.support.directory import ACTOR, MASTER_KEYS, live, open_store
from tests.support.tenants import (
    ACME,
    add_account,
    add_identity,
    add_key,
    add_user,
    notes,
    raw,
    signing_key,
)
from tests.support.topics import add_topic, subscribe

KEY = "AKIAACME000000000001"
NEW = new_master_key("m2")
BOTH = NEW + MASTER_KEYS
SECRET = Secret("whsec_" + "A" * 32)
_SEALED = (
    "access keys",
    "DKIM keys",
    "credentials of subscriptions",
    "secrets of subscriptions",
)


@pytest.fixture
async def url(store: DirectoryStore) -> str:
    """The URL of a directory with a key of each kind, under the first master key."""
    await add_account(store)
    await add_user(store)
    await add_key(store, KEY, user_name="mailer")
    await add_identity(store)
    await signing_key(store)
    await add_topic(store)
    await subscribe(store, "https://me:pass@hooks.example.com/", form="raw", secret=SECRET)
    return store.database.url.render_as_string(hide_password=False)


async def must_serve(store: DirectoryStore) -> None:
    directory = live(store)
    await directory.catch_up()
    assert await directory.access_key(KEY) is not None
    (found,) = await directory.identities("example.com")
    assert len(found.dkim_keys) == 1
    (subscription,) = await directory.subscriptions(ACME, "bounces")
    assert (subscription.credentials, subscription.secret) == (Secret("me:pass"), SECRET)


async def test_afterwards_the_old_line_is_not_needed(store: DirectoryStore, url: str) -> None:
    async with open_store(url, master_keys=BOTH) as both:
        await must_serve(both)
        seq = len(await notes(store))
        done = await rekey(both, ACTOR)
        assert done == dict.fromkeys(_SEALED, 1)
        output = [(note.action, note.kind) for note in await notes(store, seq)]
        assert output == [("rekey", "store")]
        assert await rekey(both, ACTOR) == dict.fromkeys(_SEALED, 0)
        await must_serve(both)
    async with open_store(url, master_keys=BOTH):
        pass  # a restart before the line is deleted needs it no more either
    async with open_store(url, master_keys=NEW) as new:
        await must_serve(new)
    with pytest.raises(MasterKeyError, match="master key m2, which is"):
        async with open_store(url):
            pass


@pytest.mark.slow
async def test_many_rows_are_sealed_again_and_each_for_its_own_place(
    store: DirectoryStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.directory.rekey._AT_ONCE", 5)
    key_ids = [f"AKIAACME{number:012}" for number in range(1, 13)]
    for key_id in key_ids[1:]:
        await add_user(store, key_id)
        await add_key(store, key_id, user_name=key_id)
    async with open_store(url, master_keys=BOTH) as both:
        assert (await rekey(both, ACTOR))["access keys"] == len(key_ids)
    async with open_store(url, master_keys=NEW) as new:
        directory = live(new)
        await directory.catch_up()
        assert None not in [await directory.access_key(key_id) for key_id in key_ids]


async def test_who_still_has_the_old_file_seals_nothing_more(
    store: DirectoryStore, url: str
) -> None:
    async with open_store(url, master_keys=BOTH) as both:
        await rekey(both, ACTOR)
    with pytest.raises(RefusedChangeError, match="master key m1 was replaced"):
        await add_key(store, user_name="mailer")
    with pytest.raises(RefusedChangeError, match="master key m1 was replaced"):
        async with store.changing(ACTOR) as change:
            await replace_secret(change, store.master_keys, KEY, Secret("another"))


async def test_what_cannot_be_opened_is_named_and_keeps_the_old_master_key(
    store: DirectoryStore, url: str
) -> None:
    await raw(store, "UPDATE dkim_keys SET private_key = :octets", octets=b"what else")
    async with open_store(url, master_keys=BOTH) as both:
        with pytest.raises(SealError, match=r"^dkim/.*/example.com/one is damaged"):
            await rekey(both, ACTOR)
        ids = {row.id for row in await raw(store, "SELECT id FROM master_keys")}
        assert ids == {"m1", "m2"}
        directory = live(both)
        await directory.catch_up()
        assert await directory.access_key(KEY) is not None
