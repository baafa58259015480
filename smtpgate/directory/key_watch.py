"""The watch over access keys in the directory: alarms, how they end, and profiles of use.

Profiles are no part of the audit log: they are written now and then, by every gate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import insert, select, update

from smtpgate.core.watch.profile import Profile, joined
from smtpgate.directory.change import Change
from smtpgate.directory.keys import AccessKeyRow, Clearing, WatchState, access_key
from smtpgate.directory.rows import update_row
from smtpgate.directory.schema import access_keys, accounts, key_profiles
from smtpgate.sql.asynchronous import AsyncConnection

_SEVERITY: Final[Mapping[WatchState | None, int]] = {
    None: 0,
    "reported": 1,
    "slowed": 2,
    "suspended": 3,
}
_MAX_REASON: Final = 1000
encode: Final[Callable[[Profile], bytes]] = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Profile).decode


class StoredProfile(Struct, frozen=True, gc=False):
    """The profile of a key that exists, and the last clearing of its alarms.

    ``octets`` are ``None`` before the first profile was written.
    """

    octets: bytes | None
    cleared_at: datetime | None
    clearing: Clearing | None

    @property
    def profile(self) -> Profile | None:
        """The profile, decoded each time, which takes 100 microseconds."""
        return None if self.octets is None else decode(self.octets)


def decode(octets: bytes) -> Profile | None:
    """The profile; ``None`` if this version cannot read it: the watch learns again."""
    try:
        return _decode(octets)
    except msgspec.MsgspecError:
        return None


async def raise_alarm(
    change: Change, key_id: str, state: WatchState, reason: str, slow_to_per_s: float
) -> AccessKeyRow:
    """Open an alarm about a key, or make it graver; it never becomes milder by itself.

    Raises NotFoundError.
    """
    before = await access_key(change.connection, key_id)
    if _SEVERITY[state] < _SEVERITY[before.watch_state]:
        state = before.watch_state or state
    changes = {
        "watch_state": state,
        "watch_reason": reason[:_MAX_REASON],
        "watch_since": before.watch_since or change.now,
        "slowed_to_per_s": slow_to_per_s if state == "slowed" else None,
    }
    return await _update(change, before, changes, "alarm")


async def clear(change: Change, key_id: str, clearing: Clearing) -> None:
    """End an alarm about a key. Raises NotFoundError."""
    before = await access_key(change.connection, key_id)
    changes = {
        "watch_state": None,
        "watch_reason": None,
        "watch_since": None,
        "slowed_to_per_s": None,
        "cleared_at": change.now,
        "clearing": clearing,
    }
    after = await _update(change, before, changes, clearing)
    if after.facts() == before.facts():  # then there is no entry yet
        await change.note(clearing, before.subject, before=before.facts(), after=after.facts())


async def _update(
    change: Change, before: AccessKeyRow, changes: Mapping[str, Any], action: str
) -> AccessKeyRow:
    after = replace(before, **changes)
    key = {"id": before.id}
    return await update_row(change, access_keys, key, before, after, action=action)


async def contacts(
    connection: AsyncConnection, account_ids: Sequence[str]
) -> Mapping[str, str]:
    """The contact addresses of these accounts, of those that have one."""
    query = select(accounts.c.id, accounts.c.contact).where(
        accounts.c.id.in_(account_ids), accounts.c.contact.is_not(None)
    )
    return {row.id: row.contact for row in await connection.execute(query)}


async def stored_profiles(
    connection: AsyncConnection, key_ids: Sequence[str]
) -> Mapping[str, StoredProfile]:
    """The profiles of those keys that exist."""
    query = (
        select(
            access_keys.c.id,
            access_keys.c.cleared_at,
            access_keys.c.clearing,
            key_profiles.c.profile,
        )
        .outerjoin(key_profiles, key_profiles.c.key_id == access_keys.c.id)
        .where(access_keys.c.id.in_(key_ids))
    )
    return {
        row.id: StoredProfile(row.profile, row.cleared_at, row.clearing)
        for row in await connection.execute(query)
    }


async def store_profiles(
    connection: AsyncConnection, profiles: Mapping[str, Profile], now: datetime
) -> Mapping[str, StoredProfile]:
    """Write profiles, joined with those that other gates have written; the result.

    Keys that do not exist any more are left out.
    """
    there = await stored_profiles(connection, list(profiles))
    stored: dict[str, StoredProfile] = {}
    for key_id, its in there.items():
        mine, old = profiles[key_id], its.profile
        both = mine if old is None else joined(old, mine)
        octets = encode(both)
        stored[key_id] = StoredProfile(octets, its.cleared_at, its.clearing)
        values = {"profile": octets, "updated_at": now}
        if old is None:
            await connection.execute(
                key_profiles.delete().where(key_profiles.c.key_id == key_id)
            )
            await connection.execute(insert(key_profiles).values(key_id=key_id, **values))
        else:
            await connection.execute(
                update(key_profiles).where(key_profiles.c.key_id == key_id).values(values)
            )
    return stored
