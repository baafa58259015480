"""Identities of documents with their DKIM keys against those of the directory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, Final

from smtpgate.core.identity import PrivateKey
from smtpgate.core.proof.dkim_stages import KeyStage
from smtpgate.core.proof.verification import NOT_STARTED, begin, trusted
from smtpgate.directory.change import AuditSubject, Change
from smtpgate.directory.dkim import DkimKeyRow, add_dkim_keys, delete_dkim_key, update_dkim_key
from smtpgate.directory.documents.desired import DesiredDkimKey, DesiredIdentity
from smtpgate.directory.documents.fields import (
    account_key,
    dkim_object_key,
    fields_of_dkim_key,
    fields_of_identity,
    identity_key,
)
from smtpgate.directory.documents.object_keys import ObjectKey
from smtpgate.directory.documents.plan import Step, Work
from smtpgate.directory.documents.plan_limits import cap_steps
from smtpgate.directory.documents.planning import (
    Order,
    Ordered,
    Planning,
    differences,
    policy_steps,
)
from smtpgate.directory.identities import (
    IdentityRow,
    add_identities,
    remove_identities,
    update_identity,
)
from smtpgate.directory.policies import PolicyOwner, PolicyRow, remove_policies
from smtpgate.directory.sealing import MasterKeys
from smtpgate.signing.private_keys import dns_record

_OTHERWISE: Final = "another private key than the documents have"
_TRUSTED: Final = "verified by trust"


def identity_steps(planning: Planning) -> Iterator[Ordered]:
    """The steps that make identities, their policies, caps and DKIM keys the desired ones."""
    there = planning.current.identities
    put = partial(_put_dkim_keys, master_keys=planning.master_keys)
    for identity in planning.desired.identities:
        row = there.get((identity.account_id, identity.name))
        key = identity_key(identity.account_id, planning.region, identity.name)
        yield from _identity(planning, identity, key, row)
        owner = (row or _new(planning, identity)).policies(planning.partition)
        yield from policy_steps(planning, owner, key, identity.policies, identity.location)
        yield from cap_steps(planning, identity, key)
        yield from _dkim_steps(planning, identity, key, put)
    named = {(one.account_id, one.name) for one in planning.desired.identities}
    for owned in sorted(there.keys() - named):
        row, key = there[owned], identity_key(owned[0], planning.region, owned[1])
        if planning.prunes(key, str(row.subject)):
            yield _away(planning, key, row)


def _away(planning: Planning, key: ObjectKey, row: IdentityRow) -> Ordered:
    owner = row.policies(planning.partition)
    its_policies = planning.current.policies_of(owner)
    its_keys = planning.current.dkim_keys_of(row.account_id, row.name)
    its_caps = planning.current.caps_of(row.account_id, row.region, row.name)
    parts = (("policies", its_policies), ("caps on", its_caps), ("DKIM keys", its_keys))
    words = " and ".join(f"the {what} {', '.join(names)}" for what, names in parts if names)
    item = (row, [(owner, policy) for policy in its_policies.values()])
    how, columns = f"with {words}" if words else "", planning.columns(key)
    return Order.IDENTITY_AWAY, Step("-", str(row.subject), how, _remove, item, columns)


async def _remove(
    change: Change,
    items: Sequence[tuple[IdentityRow, Sequence[tuple[PolicyOwner, PolicyRow]]]],
) -> None:
    await remove_policies(change, [policy for _, policies in items for policy in policies])
    await remove_identities(change, [row for row, _ in items])


# -- verification and pause --------------------------------------------------------------------


def _new(planning: Planning, identity: DesiredIdentity) -> IdentityRow:
    verification = asdict(trusted(planning.now)) if identity.is_verified else {}
    return IdentityRow(
        account_id=identity.account_id,
        region=planning.region,
        name=identity.name,
        paused_reason=identity.pause.after(None),
        suppresses_delegates=bool(identity.suppresses_delegates),
        **verification,
    )


def _identity(
    planning: Planning, identity: DesiredIdentity, key: ObjectKey, row: IdentityRow | None
) -> Iterator[Ordered]:
    wanted, columns = (
        fields_of_identity(identity),
        planning.columns(key, fields_of_identity(identity)),
    )
    what = str(AuditSubject("identity", identity.account_id, identity.name))
    if row is None:
        if planning.makes(key, wanted, what, account_key(identity.account_id)):
            new = _new(planning, identity)
            how = _TRUSTED if new.is_verified else ""
            yield Order.IDENTITY, Step("+", what, how, add_identities, new, columns)
        return
    changes = planning.changes(key, wanted, what)
    if not changes:
        return
    is_trusted = changes.pop("is_verified", None)
    words = [differences(row, changes)] if changes else []
    if is_trusted is not None:
        changes |= _verification(row, is_trusted, planning.now)
        words.insert(0, _TRUSTED if is_trusted else f"no longer {_TRUSTED}")
    yield Order.IDENTITY, Step("~", what, ", ".join(words), _update, (row, changes), columns)


def _verification(row: IdentityRow, is_trusted: bool, now: datetime) -> Mapping[str, Any]:
    """The columns of an identity that an operator vouches for, or does no longer.

    A domain has to prove itself then, as one that is new.
    """
    if is_trusted:
        return asdict(trusted(now))
    return asdict(begin(NOT_STARTED, now) if row.is_domain else NOT_STARTED)


async def _update(
    change: Change, items: Sequence[tuple[IdentityRow, Mapping[str, Any]]]
) -> None:
    for row, changes in items:
        await update_identity(change, row, changes, action="change")


# -- DKIM keys ---------------------------------------------------------------------------------


def _dkim_steps(
    planning: Planning, identity: DesiredIdentity, owner_key: ObjectKey, put: Work
) -> Iterator[Ordered]:
    there = planning.current.dkim_keys_of(identity.account_id, identity.name)
    owner = identity.account_id, planning.region, identity.name
    for key in identity.dkim_keys:
        named, row = dkim_object_key(*owner, key.selector), there.get(key.selector)
        if row is None:
            yield from _made_dkim_key(planning, identity, key, (named, owner_key), put)
        else:
            yield from _kept_dkim_key(planning, identity, key, named, row, put)
    selectors = {key.selector for key in identity.dkim_keys}
    for selector, row in there.items():
        named = dkim_object_key(*owner, selector)
        if selector not in selectors and planning.prunes(named, _what(row)):
            item, columns = row, planning.columns(named)
            yield (
                Order.DKIM_AWAY,
                Step("-", _what(row), row.stage, _remove_dkim_keys, item, columns),
            )


def _made_dkim_key(
    planning: Planning,
    identity: DesiredIdentity,
    key: DesiredDkimKey,
    keys: tuple[ObjectKey, ObjectKey],
    put: Work,
) -> Iterator[Ordered]:
    (named, owner_key), wanted = keys, fields_of_dkim_key(key)
    what = f"DKIM key {key.selector} of identity {identity.account_id}/{identity.name}"
    if not planning.makes(named, wanted, what, owner_key):
        return
    if key.pem is None or key.private_key is None:
        planning.note(
            key.location / "key_file",
            "is missing: the DKIM key is not in the directory yet, so that it needs one",
        )
        return
    new = _new_dkim_key(planning, identity, key, key.private_key, key.stage or "active")
    item, columns = (None, new, key.pem), planning.columns(named, wanted)
    yield Order.DKIM, Step("+", what, new.stage, put, item, columns)


def _kept_dkim_key(
    planning: Planning,
    identity: DesiredIdentity,
    key: DesiredDkimKey,
    named: ObjectKey,
    row: DkimKeyRow,
    put: Work,
) -> Iterator[Ordered]:
    wanted, columns = fields_of_dkim_key(key), planning.columns(named, fields_of_dkim_key(key))
    # The public halves tell whether the private ones differ; no secret is opened.
    if row.stage == "active" and not planning.force and wanted.get("record") != row.record:
        if "record" in wanted:
            # Its signatures would fail until the DNS has the other record.
            planning.note_drift(named, _what(row), _OTHERWISE, wanted)
        wanted = {name: value for name, value in wanted.items() if name != "record"}
    changes = planning.changes(named, wanted, _what(row))
    stage: KeyStage | None = changes.get("stage")
    if "record" in changes and key.pem is not None and key.private_key is not None:
        new = _new_dkim_key(planning, identity, key, key.private_key, stage or row.stage)
        item, how = (row, new, key.pem), f"another private key, {new.stage}"
        yield Order.DKIM, Step("~", _what(new), how, put, item, columns)
    elif stage is not None:
        words = differences(row, {"stage": stage})
        item_ = (row, _staged(stage, planning.now))
        yield Order.DKIM, Step("~", _what(row), words, _update_dkim_keys, item_, columns)


def _what(row: DkimKeyRow) -> str:
    return f"DKIM key {row.selector} of {row.subject}"


def _new_dkim_key(
    planning: Planning,
    identity: DesiredIdentity,
    key: DesiredDkimKey,
    private_key: PrivateKey,
    stage: KeyStage,
) -> DkimKeyRow:
    return DkimKeyRow(
        account_id=identity.account_id,
        region=planning.region,
        domain=identity.name,
        selector=key.selector,
        algorithm=private_key.algorithm,
        record=dns_record(private_key),
        **_staged(stage, planning.now),
    )


def _staged(stage: KeyStage, now: datetime) -> dict[str, Any]:
    """The columns of a key that enters a stage; where it matters its record is looked for."""
    is_asked_for = stage in ("pending", "active")
    return {
        "stage": stage,
        "since": now,
        "problem": "",
        "alarm_since": None,
        "next_check_at": now if is_asked_for else None,
    }


async def _put_dkim_keys(
    change: Change,
    items: Sequence[tuple[DkimKeyRow | None, DkimKeyRow, bytes]],
    *,
    master_keys: MasterKeys,
) -> None:
    await _remove_dkim_keys(change, [before for before, _, _ in items if before is not None])
    await add_dkim_keys(change, master_keys, [(new, pem) for _, new, pem in items])


async def _update_dkim_keys(
    change: Change, items: Sequence[tuple[DkimKeyRow, Mapping[str, Any]]]
) -> None:
    for row, changes in items:
        await update_dkim_key(change, row, changes, action="change-dkim-key")


async def _remove_dkim_keys(change: Change, rows: Sequence[DkimKeyRow]) -> None:
    for row in rows:
        await delete_dkim_key(change, row)
