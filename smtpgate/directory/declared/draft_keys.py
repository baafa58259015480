"""Access keys of documents against those of the directory."""

import hmac
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeAlias

from smtpgate.core.naming import MAX_ACTIVE_KEYS, user_key
from smtpgate.core.secret import Secret
from smtpgate.directory.change import Change, Subject
from smtpgate.directory.declared.content import DeclaredKey, Place
from smtpgate.directory.declared.draft_limits import first_limits, limits_told, new_limits
from smtpgate.directory.declared.drafting import (
    Drafting,
    Order,
    Ordered,
    differences,
    joined,
    stated,
)
from smtpgate.directory.declared.plan import Step, Work
from smtpgate.directory.declared.said import (
    ObjectKey,
    account_key,
    key_key,
    said_of_key,
    user_object_key,
)
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

_Owner: TypeAlias = tuple[str, str | None]
_FIELDS: Final = ("expires_at", "networks", "is_active")
_OTHERWISE: Final = "another secret than the documents have"


def access_key_steps(drafting: Drafting) -> Iterator[Ordered]:
    """What makes the access keys those that are declared."""
    there = drafting.present.access_keys
    add = partial(_add, master_keys=drafting.master_keys)
    replace = partial(_replace, master_keys=drafting.master_keys)
    active: defaultdict[_Owner, set[str]] = defaultdict(set)
    for key in drafting.declared.access_keys:
        row, told = there.get(key.id), _subject(key)
        if row is None:
            if not drafting.makes(key_key(key.id), said_of_key(key), told, *_owner_keys(key)):
                continue
            why = "is not in the directory yet, so that it needs one"
            yield from _new(drafting, key, why, add)
        elif _owner(row) != _owner(key):
            if not _moves(drafting, key, row):
                _note_active(active, row, is_active=row.is_active)
                continue
            yield access_key_away(drafting, row)
            why = f"belongs to {row.owner} in the directory, so that it needs one here"
            yield from _new(drafting, key, why, add)
        else:
            changes = drafting.changes(key_key(key.id), said_of_key(key), told)
            yield from _kept(drafting, key, row, changes, replace)
            _note_active(active, key, is_active=changes.get("is_active", row.is_active))
            continue
        _note_active(active, key, is_active=key.is_active is not False)
    named = {key.id for key in drafting.declared.access_keys}
    for key_id, row in there.items():
        if key_id not in named:
            if drafting.prunes(key_key(key_id), _what(row)):
                yield access_key_away(drafting, row)
            else:
                _note_active(active, row, is_active=row.is_active)
    _note_too_many(drafting, active)


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


def _owner_keys(key: DeclaredKey) -> Iterator[ObjectKey]:
    yield account_key(key.account_id)
    if key.user_name is not None:
        yield user_object_key(key.account_id, key.user_name)


def _note_active(
    active: Mapping[_Owner, set[str]], key: AccessKeyRow | DeclaredKey, *, is_active: bool
) -> None:
    if is_active:
        active[_owner(key)].add(key.id)


def _subject(key: DeclaredKey) -> str:
    user = f"/{key.user_name}" if key.user_name else ""
    return f"{Subject('key', key.account_id, key.id)} of {key.account_id}{user}"


def _what(row: AccessKeyRow) -> str:
    return f"{row.subject} of {row.owner}"


def _limited(key: DeclaredKey) -> QuotaPlace:
    return QuotaPlace.of_key(key.account_id, key.id)


def access_key_away(drafting: Drafting, row: AccessKeyRow) -> Ordered:
    """The step that deletes an access key."""
    key = key_key(row.id)
    drafting.removed.add(key)
    columns = drafting.columns(key)
    return Order.KEY_AWAY, Step("-", _what(row), "", remove_access_keys, row, columns)


def _moves(drafting: Drafting, key: DeclaredKey, row: AccessKeyRow) -> bool:
    """Whether documents give the key of another owner to this one; its secret stays."""
    said = said_of_key(key)
    if not drafting.away.isdisjoint(_owner_keys(key)):
        drafting.note_drift(
            key_key(key.id), _what(row), "not moved: its owner was deleted", said
        )
        return False
    if not drafting.changes(key_key(key.id), {"owner": said["owner"]}, _what(row)):
        return False
    if drafting.force or key.secret is None or _has_secret(drafting, key, key.secret):
        return True
    how = f"{_OTHERWISE}, so that it is not moved to {said['owner']}"
    drafting.note_drift(key_key(key.id), _what(row), how, said)
    return False


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
    columns = drafting.columns(key_key(key.id), said_of_key(key))
    yield Order.KEY, Step("+", _what(row), how, add, item, columns)


def _kept(
    drafting: Drafting,
    key: DeclaredKey,
    row: AccessKeyRow,
    found: Mapping[str, Any],
    replace: Work,
) -> Iterator[Ordered]:
    columns = drafting.columns(key_key(key.id), said_of_key(key))
    changes = {name: found[name] for name in _FIELDS if name in found}
    limits = new_limits(drafting, _limited(key), found)
    if told := joined(differences(row, changes), limits_told(limits)):
        # What is turned off makes room for another.
        order = Order.KEY_AWAY if changes.get("is_active") is False else Order.KEY
        yield order, Step("~", _what(row), told, _update, (row, changes, limits), columns)
    if key.secret is None or _has_secret(drafting, key, key.secret):
        return
    if drafting.force:
        item = (row, key.secret)
        yield Order.KEY, Step("~", _what(row), "another secret", replace, item, columns)
    else:
        # Whoever uses the key would be refused from then on.
        drafting.note_drift(key_key(key.id), _what(row), _OTHERWISE, said_of_key(key))


def _has_secret(drafting: Drafting, key: DeclaredKey, secret: Secret) -> bool:
    sealed = drafting.present.sealed[key.id]
    try:
        kept = drafting.master_keys.open(sealed, secret_place(key.id))
    except SealError as error:
        drafting.note(key.place / "id", f"its secret in the directory {error}")
        return True
    return hmac.compare_digest(kept, secret.value.encode())


def _note_too_many(drafting: Drafting, active: Mapping[_Owner, set[str]]) -> None:
    """With those of the directory that no document names, an owner can have too many."""
    places: dict[_Owner, Place] = {}
    for key in drafting.declared.access_keys:
        places.setdefault(_owner(key), key.place)
    for owner, place in places.items():
        found = active.get(owner, set())
        if len(found) > MAX_ACTIVE_KEYS:
            drafting.note(
                place,
                f"then {len(found)} access keys would be active together, and at most "
                f"{MAX_ACTIVE_KEYS} may be: {', '.join(sorted(found))}",
            )
