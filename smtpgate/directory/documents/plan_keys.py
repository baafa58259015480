"""Access keys of documents against those of the directory."""

import hmac
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeAlias

from smtpgate.core.naming import MAX_ACTIVE_KEYS, user_key
from smtpgate.core.secret import Secret
from smtpgate.directory.change import AuditSubject, Change
from smtpgate.directory.documents.desired import DesiredKey, SourceLocation
from smtpgate.directory.documents.fields import (
    account_key,
    fields_of_key,
    key_key,
    user_object_key,
)
from smtpgate.directory.documents.object_keys import ObjectKey
from smtpgate.directory.documents.plan import Step, Work
from smtpgate.directory.documents.plan_limits import first_limits, limits_in_words, new_limits
from smtpgate.directory.documents.planning import (
    Order,
    Ordered,
    Planning,
    differences,
    joined,
    stated,
)
from smtpgate.directory.keys import (
    AccessKeyRow,
    add_access_keys,
    remove_access_keys,
    replace_secret,
    secret_context,
    update_access_key,
)
from smtpgate.directory.quotas import QuotaKey, QuotaWrite, write_quotas
from smtpgate.directory.sealing import MasterKeys, SealError

_Owner: TypeAlias = tuple[str, str | None]
_FIELDS: Final = ("expires_at", "networks", "certificates", "is_active")
_OTHERWISE: Final = "another secret than the documents have"


def access_key_steps(planning: Planning) -> Iterator[Ordered]:
    """The steps that make the access keys the desired ones."""
    there = planning.current.access_keys
    add = partial(_add, master_keys=planning.master_keys)
    replace = partial(_replace, master_keys=planning.master_keys)
    active: defaultdict[_Owner, set[str]] = defaultdict(set)
    for key in planning.desired.access_keys:
        row, words = there.get(key.id), _subject(key)
        if row is None:
            if not planning.makes(
                key_key(key.id), fields_of_key(key), words, *_owner_keys(key)
            ):
                continue
            why = "is not in the directory yet, so that it needs one"
            yield from _new(planning, key, why, add)
        elif _owner(row) != _owner(key):
            if not _moves(planning, key, row):
                _note_active(active, row, is_active=row.is_active)
                continue
            yield access_key_away(planning, row)
            why = f"belongs to {row.owner} in the directory, so that it needs one here"
            yield from _new(planning, key, why, add)
        else:
            changes = planning.changes(key_key(key.id), fields_of_key(key), words)
            yield from _kept(planning, key, row, changes, replace)
            _note_active(active, key, is_active=changes.get("is_active", row.is_active))
            continue
        _note_active(active, key, is_active=key.is_active is not False)
    named = {key.id for key in planning.desired.access_keys}
    for key_id, row in there.items():
        if key_id not in named:
            if planning.prunes(key_key(key_id), _what(row)):
                yield access_key_away(planning, row)
            else:
                _note_active(active, row, is_active=row.is_active)
    _note_too_many(planning, active)


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


def _owner(key: AccessKeyRow | DesiredKey) -> _Owner:
    return key.account_id, None if key.user_name is None else user_key(key.user_name)


def _owner_keys(key: DesiredKey) -> Iterator[ObjectKey]:
    yield account_key(key.account_id)
    if key.user_name is not None:
        yield user_object_key(key.account_id, key.user_name)


def _note_active(
    active: Mapping[_Owner, set[str]], key: AccessKeyRow | DesiredKey, *, is_active: bool
) -> None:
    if is_active:
        active[_owner(key)].add(key.id)


def _subject(key: DesiredKey) -> str:
    user = f"/{key.user_name}" if key.user_name else ""
    return f"{AuditSubject('key', key.account_id, key.id)} of {key.account_id}{user}"


def _what(row: AccessKeyRow) -> str:
    return f"{row.subject} of {row.owner}"


def _quota_key(key: DesiredKey) -> QuotaKey:
    return QuotaKey.of_key(key.account_id, key.id)


def access_key_away(planning: Planning, row: AccessKeyRow) -> Ordered:
    """The step that deletes an access key."""
    key = key_key(row.id)
    planning.removed.add(key)
    columns = planning.columns(key)
    return Order.KEY_AWAY, Step("-", _what(row), "", remove_access_keys, row, columns)


def _moves(planning: Planning, key: DesiredKey, row: AccessKeyRow) -> bool:
    """True if documents give the key of another owner to this one; its secret stays."""
    wanted = fields_of_key(key)
    if not planning.away.isdisjoint(_owner_keys(key)):
        planning.note_drift(
            key_key(key.id), _what(row), "not moved: its owner was deleted", wanted
        )
        return False
    if not planning.changes(key_key(key.id), {"owner": wanted["owner"]}, _what(row)):
        return False
    if planning.force or key.secret is None or _has_secret(planning, key, key.secret):
        return True
    how = f"{_OTHERWISE}, so that it is not moved to {wanted['owner']}"
    planning.note_drift(key_key(key.id), _what(row), how, wanted)
    return False


def _new(planning: Planning, key: DesiredKey, why: str, add: Work) -> Iterator[Ordered]:
    if key.secret is None:
        planning.note(key.location / "secret_file", f"is missing: the access key {why}")
        return
    row = AccessKeyRow(
        id=key.id,
        account_id=key.account_id,
        user_name=key.user_name,
        is_active=key.is_active is not False,
        expires_at=key.expires_at,
        networks=key.networks,
        certificates=key.certificates,
    )
    how = joined("" if row.is_active else "inactive", stated(asdict(key.limits)))
    # Also where the key was another's: its limits have gone with it.
    item = (row, key.secret, first_limits(_quota_key(key), key.limits))
    columns = planning.columns(key_key(key.id), fields_of_key(key))
    yield Order.KEY, Step("+", _what(row), how, add, item, columns)


def _kept(
    planning: Planning,
    key: DesiredKey,
    row: AccessKeyRow,
    found: Mapping[str, Any],
    replace: Work,
) -> Iterator[Ordered]:
    columns = planning.columns(key_key(key.id), fields_of_key(key))
    changes = {name: found[name] for name in _FIELDS if name in found}
    limits = new_limits(planning, _quota_key(key), found)
    if words := joined(differences(row, changes), limits_in_words(limits)):
        # A disabled key makes room for another.
        order = Order.KEY_AWAY if changes.get("is_active") is False else Order.KEY
        yield order, Step("~", _what(row), words, _update, (row, changes, limits), columns)
    if key.secret is None or _has_secret(planning, key, key.secret):
        return
    if planning.force:
        item = (row, key.secret)
        yield Order.KEY, Step("~", _what(row), "another secret", replace, item, columns)
    else:
        # Clients that use the key would be refused from then on.
        planning.note_drift(key_key(key.id), _what(row), _OTHERWISE, fields_of_key(key))


def _has_secret(planning: Planning, key: DesiredKey, secret: Secret) -> bool:
    sealed = planning.current.sealed[key.id]
    try:
        kept = planning.master_keys.open(sealed, secret_context(key.id))
    except SealError as error:
        planning.note(key.location / "id", f"its secret in the directory {error}")
        return True
    return hmac.compare_digest(kept, secret.value.encode())


def _note_too_many(planning: Planning, active: Mapping[_Owner, set[str]]) -> None:
    """With those of the directory that no document names, an owner can have too many."""
    locations: dict[_Owner, SourceLocation] = {}
    for key in planning.desired.access_keys:
        locations.setdefault(_owner(key), key.location)
    for owner, location in locations.items():
        found = active.get(owner, set())
        if len(found) > MAX_ACTIVE_KEYS:
            planning.note(
                location,
                f"then {len(found)} access keys would be active together, and at most "
                f"{MAX_ACTIVE_KEYS} may be: {', '.join(sorted(found))}",
            )
