"""Identities of documents with their DKIM keys against those of the directory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, Final

from smtpgate.core.dkim_stages import Stage
from smtpgate.core.identity import PrivateKey
from smtpgate.core.verification import NOT_STARTED, begin, vouched
from smtpgate.directory.change import Change
from smtpgate.directory.declared.content import DeclaredDkimKey, DeclaredIdentity
from smtpgate.directory.declared.draft_limits import cap_steps
from smtpgate.directory.declared.drafting import (
    Drafting,
    Order,
    Ordered,
    changed,
    differences,
    policy_steps,
)
from smtpgate.directory.declared.plan import Step, Work
from smtpgate.directory.dkim import (
    DkimKeyRow,
    add_dkim_keys,
    delete_dkim_key,
    update_dkim_key,
)
from smtpgate.directory.identities import (
    IdentityRow,
    add_identities,
    remove_identities,
    update_identity,
)
from smtpgate.directory.policies import PolicyPlace, PolicyRow, remove_policies
from smtpgate.directory.sealing import MasterKeys
from smtpgate.private_keys import dns_record

__all__ = ["identity_steps"]

_TRUSTED: Final = "verified by trust"


def identity_steps(drafting: Drafting) -> Iterator[Ordered]:
    """What makes the identities, their policies, caps and DKIM keys those that are declared."""
    there = drafting.present.identities
    put = partial(_put_dkim_keys, master_keys=drafting.master_keys)
    for identity in drafting.declared.identities:
        row = there.get((identity.account_id, identity.name))
        yield from _identity(drafting, identity, row)
        owner = (row or _new(drafting, identity)).policies(drafting.partition)
        yield from policy_steps(drafting, owner, identity.policies, identity.place)
        yield from cap_steps(drafting, identity)
        yield from _dkim_steps(drafting, identity, put)
    if drafting.prune:
        named = {(one.account_id, one.name) for one in drafting.declared.identities}
        yield from (_away(drafting, there[key]) for key in sorted(there.keys() - named))


def _away(drafting: Drafting, row: IdentityRow) -> Ordered:
    place = row.policies(drafting.partition)
    its_policies = drafting.present.policies_of(place)
    its_keys = drafting.present.dkim_keys_of(row.account_id, row.name)
    its_caps = drafting.present.caps_of(row.account_id, row.region, row.name)
    parts = (("policies", its_policies), ("caps on", its_caps), ("DKIM keys", its_keys))
    told = " and ".join(f"the {what} {', '.join(names)}" for what, names in parts if names)
    item = (row, [(place, policy) for policy in its_policies.values()])
    how = f"with {told}" if told else ""
    return Order.IDENTITY_AWAY, Step("-", str(row.subject), how, _remove, item)


async def _remove(
    change: Change,
    items: Sequence[tuple[IdentityRow, Sequence[tuple[PolicyPlace, PolicyRow]]]],
) -> None:
    await remove_policies(change, [policy for _, policies in items for policy in policies])
    await remove_identities(change, [row for row, _ in items])


# -- verification and pause --------------------------------------------------------------------


def _new(drafting: Drafting, identity: DeclaredIdentity) -> IdentityRow:
    verification = asdict(vouched(drafting.now)) if identity.is_verified else {}
    return IdentityRow(
        account_id=identity.account_id,
        region=drafting.region,
        name=identity.name,
        paused_reason=identity.pause.after(None),
        **verification,
    )


def _identity(
    drafting: Drafting, identity: DeclaredIdentity, row: IdentityRow | None
) -> Iterator[Ordered]:
    if row is None:
        new = _new(drafting, identity)
        how = _TRUSTED if new.is_verified else ""
        yield Order.IDENTITY, Step("+", str(new.subject), how, add_identities, new)
        return
    changes = changed(row, {"paused_reason": identity.pause.after(row.paused_reason)})
    told = [differences(row, changes)] if changes else []
    is_trusted = row.is_verified and row.method == "trust"
    if identity.is_verified is not None and identity.is_verified != is_trusted:
        changes |= _verification(row, identity.is_verified, drafting.now)
        told.insert(0, _TRUSTED if identity.is_verified else f"no longer {_TRUSTED}")
    if told:
        what, how = str(row.subject), ", ".join(told)
        yield Order.IDENTITY, Step("~", what, how, _update, (row, changes))


def _verification(row: IdentityRow, is_trusted: bool, now: datetime) -> Mapping[str, Any]:
    """The columns of an identity that an operator vouches for, or does no longer.

    A domain has to prove itself then, as one that is new.
    """
    if is_trusted:
        return asdict(vouched(now))
    return asdict(begin(NOT_STARTED, now) if row.is_domain else NOT_STARTED)


async def _update(
    change: Change, items: Sequence[tuple[IdentityRow, Mapping[str, Any]]]
) -> None:
    for row, changes in items:
        await update_identity(change, row, changes, action="change")


# -- DKIM keys ---------------------------------------------------------------------------------


def _dkim_steps(drafting: Drafting, identity: DeclaredIdentity, put: Work) -> Iterator[Ordered]:
    there = drafting.present.dkim_keys_of(identity.account_id, identity.name)
    for key in identity.dkim_keys:
        yield from _dkim_key(drafting, identity, key, there.get(key.selector), put)
    named = {key.selector for key in identity.dkim_keys}
    for selector, row in there.items() if drafting.prune else ():
        if selector not in named:
            yield Order.DKIM_AWAY, Step("-", _what(row), row.stage, _remove_dkim_keys, row)


def _dkim_key(
    drafting: Drafting,
    identity: DeclaredIdentity,
    key: DeclaredDkimKey,
    row: DkimKeyRow | None,
    put: Work,
) -> Iterator[Ordered]:
    if key.pem is not None and key.private_key is not None:
        new = _new_dkim_key(drafting, identity, key, key.private_key, row)
        # The public halves tell whether the private ones differ; no secret is opened.
        if row is None or new.record != row.record:
            another = "another private key, " if row else ""
            item = (row, new, key.pem)
            yield (
                Order.DKIM,
                Step("~" if row else "+", _what(new), f"{another}{new.stage}", put, item),
            )
            return
    elif row is None:
        drafting.note(
            key.place / "key_file",
            "is missing: the DKIM key is not in the directory yet, so that it needs one",
        )
    if row is not None and key.stage is not None and key.stage != row.stage:
        told = differences(row, {"stage": key.stage})
        changes = _staged(key.stage, drafting.now)
        yield Order.DKIM, Step("~", _what(row), told, _update_dkim_keys, (row, changes))


def _what(row: DkimKeyRow) -> str:
    return f"DKIM key {row.selector} of {row.subject}"


def _new_dkim_key(
    drafting: Drafting,
    identity: DeclaredIdentity,
    key: DeclaredDkimKey,
    private_key: PrivateKey,
    before: DkimKeyRow | None,
) -> DkimKeyRow:
    stage = key.stage or (before.stage if before else "active")
    return DkimKeyRow(
        account_id=identity.account_id,
        region=drafting.region,
        domain=identity.name,
        selector=key.selector,
        algorithm=private_key.algorithm,
        record=dns_record(private_key),
        **_staged(stage, drafting.now),
    )


def _staged(stage: Stage, now: datetime) -> dict[str, Any]:
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
