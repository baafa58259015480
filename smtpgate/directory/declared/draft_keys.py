"""Access keys of documents against those of the directory."""

import hmac
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, TypeAlias

from smtpgate.core.naming import MAX_ACTIVE_KEYS, user_key
from smtpgate.core.secret import Secret
from smtpgate.directory.change import Change
from smtpgate.directory.declared.content import DeclaredKey, Place
from smtpgate.directory.declared.draft_limits import first_limits, limits_told, new_limits
from smtpgate.directory.declared.drafting import (
    Drafting,
    Order,
    Ordered,
    changed,
    differences,
    joined,
    stated,
)
from smtpgate.directory.declared.plan import Step, Work
from smtpgate.directory.keys import (
    AccessKeyRow,
    add_access_keys,
    remove_access_keys,
    replace_secret,
    secret_place,
    update_access_key,
)
from smtpgate.directory.quotas import QuotaPlace, QuotaWrite, write_quotas
from smtpgate.directory.sealing import MasterKeys, SealError

__all__ = ["access_key_steps"]

_Owner: TypeAlias = tuple[str, str | None]


def access_key_steps(drafting: Drafting) -> Iterator[Ordered]:
    """What makes the access keys those that are declared."""
    there = drafting.present.access_keys
    add = partial(_add, master_keys=drafting.master_keys)
    replace = partial(_replace, master_keys=drafting.master_keys)
    for key in drafting.declared.access_keys:
        row = there.get(key.id)
        if row is None:
            why = "is not in the directory yet, so that it needs one"
            yield from _new(drafting, key, why, add)
        elif _owner(row) != _owner(key):
            yield _away(row)
            why = f"belongs to {row.owner} in the directory, so that it needs one here"
            yield from _new(drafting, key, why, add)
        else:
            yield from _kept(drafting, key, row, replace)
    if drafting.prune:
        named = {key.id for key in drafting.declared.access_keys}
        yield from (_away(row) for key_id, row in there.items() if key_id not in named)
    _note_too_many(drafting)


async def _add(
    change: Change,
    items: Sequence[tuple[AccessKeyRow, Secret, QuotaWrite]],
    *,
    master_keys: MasterKeys,
) -> None:
    await add_access_keys(change, master_keys, [(row, secret) for row, secret, _ in items])
    await write_quotas(change, [limits for _, _, limits in items])


async def _replace(
    change: Change, items: Sequence[tuple[AccessKeyRow, Secret]], *, master_keys: MasterKeys
) -> None:
    for row, secret in items:
        await replace_secret(change, master_keys, row.id, secret)


async def _update(
    change: Change, items: Sequence[tuple[AccessKeyRow, Mapping[str, Any], QuotaWrite]]
) -> None:
    for row, changes, _ in items:
        if changes:
            await update_access_key(change, row.id, changes)
    await write_quotas(change, [limits for _, _, limits in items])


def _owner(key: AccessKeyRow | DeclaredKey) -> _Owner:
    return key.account_id, None if key.user_name is None else user_key(key.user_name)


def _what(row: AccessKeyRow) -> str:
    return f"{row.subject} of {row.owner}"


def _limited(key: DeclaredKey) -> QuotaPlace:
    return QuotaPlace.of_key(key.account_id, key.id)


def _away(row: AccessKeyRow) -> Ordered:
    return Order.KEY_AWAY, Step("-", _what(row), "", remove_access_keys, row)


def _new(drafting: Drafting, key: DeclaredKey, why: str, add: Work) -> Iterator[Ordered]:
    if key.secret is None:
        drafting.note(key.place / "secret_file", f"is missing: the access key {why}")
        return
    row = AccessKeyRow(
        id=key.id,
        account_id=key.account_id,
        user_name=key.user_name,
        is_active=key.is_active is not False,
        expires_at=key.expires_at,
        networks=key.networks,
    )
    how = joined("" if row.is_active else "inactive", stated(asdict(key.limits)))
    # Also where the key was another's: its limits have gone with it.
    item = (row, key.secret, first_limits(_limited(key), key.limits))
    yield Order.KEY, Step("+", _what(row), how, add, item)


def _kept(
    drafting: Drafting, key: DeclaredKey, row: AccessKeyRow, replace: Work
) -> Iterator[Ordered]:
    wanted: dict[str, Any] = {"expires_at": key.expires_at, "networks": key.networks}
    if key.is_active is not None:
        wanted["is_active"] = key.is_active
    changes, limits = changed(row, wanted), new_limits(drafting, _limited(key), key.limits)
    if told := joined(differences(row, changes), limits_told(limits)):
        # What is turned off makes room for another.
        order = Order.KEY_AWAY if changes.get("is_active") is False else Order.KEY
        yield order, Step("~", _what(row), told, _update, (row, changes, limits))
    if key.secret is not None and not _has_secret(drafting, key, key.secret):
        item = (row, key.secret)
        yield Order.KEY, Step("~", _what(row), "another secret", replace, item)


def _has_secret(drafting: Drafting, key: DeclaredKey, secret: Secret) -> bool:
    sealed = drafting.present.sealed[key.id]
    try:
        kept = drafting.master_keys.open(sealed, secret_place(key.id))
    except SealError as error:
        drafting.note(key.place / "id", f"its secret in the directory {error}")
        return True
    return hmac.compare_digest(kept, secret.value.encode())


def _note_too_many(drafting: Drafting) -> None:
    """With those of the directory that no document names, an owner can have too many."""
    there = drafting.present.access_keys
    active: defaultdict[_Owner, set[str]] = defaultdict(set)
    places: dict[_Owner, Place] = {}
    for key in drafting.declared.access_keys:
        owner, row = _owner(key), there.get(key.id)
        places.setdefault(owner, key.place)
        was_active = row.is_active if row is not None and _owner(row) == owner else True
        if key.is_active if key.is_active is not None else was_active:
            active[owner].add(key.id)
    if not drafting.prune:
        named = {key.id for key in drafting.declared.access_keys}
        for row in there.values():
            if row.is_active and row.id not in named:
                active[_owner(row)].add(row.id)
    for owner, place in places.items():
        if len(active[owner]) > MAX_ACTIVE_KEYS:
            ids = ", ".join(sorted(active[owner]))
            drafting.note(
                place,
                f"then {len(active[owner])} access keys would be active together, and at most "
                f"{MAX_ACTIVE_KEYS} may be: {ids}",
            )
