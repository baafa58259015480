"""The profiles that a gate has in memory: bounded, written, and forgotten with their keys."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from smtpgate.admin import key_profiles
from smtpgate.admin.key_profiles import KeyProfiles
from smtpgate.core.watch.profile import Profile
from smtpgate.directory.key_watch import stored_profiles
from smtpgate.directory.keys import delete_access_key
from smtpgate.directory.store import DirectoryStore
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, open_store, sqlite_in
from tests.support.key_uses import MONDAY
from tests.support.tenants import add_account, add_key
from tests.support.world import DELEGATE

KEYS: Final = ["AKIAIOSFODNN7EXAMPL1", "AKIAIOSFODNN7EXAMPL2"]
PROFILE: Final = Profile(first_day=MONDAY)


@pytest.fixture
async def store(tmp_path: Path, clock: MovableClock) -> AsyncIterator[DirectoryStore]:
    """A directory with two keys, neither of which was used."""
    async with open_store(sqlite_in(tmp_path), clock=clock) as opened:
        await add_account(opened, DELEGATE)
        for key_id in KEYS:
            await add_key(opened, key_id, DELEGATE)
        yield opened


async def written(store: DirectoryStore) -> set[str]:
    """The keys with a profile in the directory."""
    async with store.reading() as connection:
        found = await stored_profiles(connection, KEYS)
    return {key_id for key_id, its in found.items() if its.profile is not None}


async def test_profiles_that_do_not_fit_are_written_before_they_are_forgotten(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_profiles, "_MAX_KEPT", 1)
    profiles = KeyProfiles(store)
    for key_id in (*KEYS, KEYS[0]):
        profiles.put(key_id, PROFILE)
    await profiles.load(())
    assert [profiles.get(key_id) for key_id in KEYS] == [PROFILE, None]
    assert await written(store) == set(KEYS)
    await profiles.load(KEYS)
    assert [profiles.get(key_id) for key_id in KEYS] == [None, PROFILE]


async def test_the_profile_of_a_deleted_key_is_forgotten(store: DirectoryStore) -> None:
    profiles = KeyProfiles(store)
    for key_id in KEYS:
        profiles.put(key_id, PROFILE)
        profiles.note_alarm(key_id)
    async with store.changing(ACTOR) as change:
        await delete_access_key(change, KEYS[0])
    await profiles.obey()
    await profiles.flush()
    assert [profiles.get(key_id) for key_id in KEYS] == [None, PROFILE]
    assert await written(store) == {KEYS[1]}
