"""The profiles of the keys that a gate watches: in memory, encoded, and now and then stored."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from smtpgate.core.history.key_use import hour_of
from smtpgate.core.watch.profile import Profile, joined, taught, without_alarm
from smtpgate.directory.key_watch import (
    StoredProfile,
    decode,
    encode,
    store_profiles,
    stored_profiles,
)
from smtpgate.directory.store import DirectoryStore

_MAX_KEPT: Final = 5_000
# Read or written in one transaction.
_STEP: Final = 4
_HOURS_OF_A_DAY: Final = 24


class KeyProfiles:
    """Some profiles, a few kilobytes each; those of keys that are used longest ago go first."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._octets: dict[str, bytes] = {}  # the last used at the end
        self._dirty: set[str] = set()
        self._alarms: set[str] = set()

    def get(self, key_id: str) -> Profile | None:
        """The profile of a key, if it is known."""
        octets = self._octets.get(key_id)
        return None if octets is None else decode(octets)

    def put(self, key_id: str, profile: Profile) -> None:
        """Keep a profile that has changed."""
        self._keep(key_id, profile)
        self._dirty.add(key_id)

    def _keep(self, key_id: str, profile: Profile) -> None:
        self._octets.pop(key_id, None)
        self._octets[key_id] = encode(profile)

    def note_alarm(self, key_id: str) -> None:
        """Look often whether a person has decided about that key."""
        self._alarms.add(key_id)

    def is_outdated(self, key_id: str, cleared_at: datetime | None) -> bool:
        """True if an alarm was cleared, and the profile does not have that yet.

        Then :meth:`obey` reads what was decided.
        """
        if cleared_at is None:
            return False
        self._alarms.add(key_id)
        profile = self.get(key_id)
        return profile is not None and profile.epoch < _epoch(cleared_at)

    async def load(self, key_ids: Iterable[str]) -> None:
        """Read the stored profiles of keys that are not in memory.

        Raises DirectoryUnavailableError.
        """
        missing = [key_id for key_id in key_ids if key_id not in self._octets]
        for some in _pieces(missing):
            async with self._store.reading() as connection:
                found = await stored_profiles(connection, some)
            for key_id, stored in found.items():
                await asyncio.sleep(0)
                profile = _obeying(stored, None)
                if profile is not None:
                    self._keep(key_id, profile)
        if len(self._octets) > _MAX_KEPT:
            await self.flush()
            for key_id in list(self._octets)[: len(self._octets) - _MAX_KEPT]:
                del self._octets[key_id]

    async def obey(self) -> None:
        """Take notice of what persons have decided about keys with an alarm."""
        for some in _pieces(sorted(self._alarms)):
            async with self._store.reading() as connection:
                found = await stored_profiles(connection, some)
            for key_id in some:
                before = self.get(key_id)
                if key_id not in found or before is None:
                    self._alarms.discard(key_id)
                    continue
                after = _obeying(found[key_id], before)
                if after is not None and after.epoch > before.epoch:
                    self._alarms.discard(key_id)
                    self.put(key_id, after)

    async def flush(self) -> None:
        """Write what has changed. Raises DirectoryUnavailableError."""
        for some in _pieces(sorted(self._dirty)):
            mine = {key_id: its for key_id in some if (its := self.get(key_id)) is not None}
            async with self._store.database.changing() as connection:
                stored = await store_profiles(connection, mine, self._store.now())
            self._dirty.difference_update(some)
            await self._take(mine, stored)

    async def _take(
        self, mine: Mapping[str, Profile], stored: Mapping[str, StoredProfile]
    ) -> None:
        for key_id in mine:
            await asyncio.sleep(0)  # decoding and joining take a third of a millisecond
            its = stored.get(key_id)
            if its is None:  # the key was deleted
                self._octets.pop(key_id, None)
                continue
            after = _obeying(its, self.get(key_id))
            if after is not None and after.epoch > mine[key_id].epoch:
                self.put(key_id, after)
            elif after is not None:
                self._octets[key_id] = encode(after)


def _obeying(stored: StoredProfile, mine: Profile | None) -> Profile | None:
    """The joined profile, with what a person has decided about it."""
    profile = stored.profile
    if mine is not None:
        profile = mine if profile is None else joined(mine, profile)
    cleared_at = stored.cleared_at
    if profile is None or cleared_at is None or profile.epoch >= _epoch(cleared_at):
        return profile
    day = hour_of(cleared_at) // _HOURS_OF_A_DAY
    clear = taught if stored.clearing == "confirmed" else without_alarm
    return clear(profile, day, _epoch(cleared_at))


def _epoch(cleared_at: datetime) -> int:
    return int(cleared_at.timestamp())


def _pieces(key_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(key_ids), _STEP):
        yield key_ids[start : start + _STEP]
