"""Limits of users, access keys and grants in documents against those of the directory.

Raises stay what they are, also where a limit changes or goes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from smtpgate.directory.declared.content import DeclaredIdentity, Limits
from smtpgate.directory.declared.drafting import (
    Drafting,
    Order,
    Ordered,
    differences,
    stated,
)
from smtpgate.directory.declared.plan import Step
from smtpgate.directory.declared.said import ObjectKey, cap_key, said_of_cap
from smtpgate.directory.quotas import MAX_CAPS, Quota, QuotaPlace, QuotaWrite, write_quotas

_NONE: Final = Limits()


def first_limits(place: QuotaPlace, limits: Limits) -> QuotaWrite:
    """What gives its limits to a user or access key that is made."""
    return QuotaWrite(place, Quota(), Quota(**asdict(limits)))


def new_limits(drafting: Drafting, place: QuotaPlace, changes: Mapping[str, Any]) -> QuotaWrite:
    """What gives a place those of the changed fields that are limits."""
    before = drafting.present.quota_of(place)
    limits = {name: changes[name] for name in asdict(_NONE) if name in changes}
    return QuotaWrite(place, before, replace(before, **limits))


def limits_told(write: QuotaWrite) -> str:
    """What changes, in words; nothing when nothing does."""
    after = asdict(write.after)
    changes = {
        name: after[name]
        for name in asdict(_NONE)
        if getattr(write.before, name) != after[name]
    }
    return differences(write.before, changes)


def cap_steps(
    drafting: Drafting, identity: DeclaredIdentity, owner_key: ObjectKey
) -> Iterator[Ordered]:
    """What makes the caps of an identity those that are declared."""
    owner = identity.account_id, drafting.region, identity.name
    there, named = drafting.present.caps_of(*owner), identity.caps.keys()
    made = set[str]()
    for delegate_id, limits in identity.caps.items():
        key, said = cap_key(*owner, delegate_id), said_of_cap(limits)
        place = QuotaPlace.of_grant(*owner, delegate_id)
        what = _what(place)
        if delegate_id not in there:
            if drafting.makes(key, said, what, owner_key):
                made.add(delegate_id)
                write = new_limits(drafting, place, said)
                how, columns = stated(asdict(limits)), drafting.columns(key, said)
                yield Order.CAP, Step("+", what, how, write_quotas, write, columns)
        elif changes := drafting.changes(key, said, what):
            write, columns = (
                new_limits(drafting, place, changes),
                drafting.columns(key, said),
            )
            how = limits_told(write)
            yield Order.CAP, Step("~", what, how, write_quotas, write, columns)
    gone = set[str]()
    for delegate_id in sorted(there.keys() - named):
        key, place = cap_key(*owner, delegate_id), QuotaPlace.of_grant(*owner, delegate_id)
        if drafting.prunes(key, _what(place)):
            gone.add(delegate_id)
            write = new_limits(drafting, place, asdict(_NONE))
            how = stated(write.before.without_raise().facts())
            columns = drafting.columns(key)
            yield Order.CAP_AWAY, Step("-", _what(place), how, write_quotas, write, columns)
    drafting.note_crowd(identity.place / "caps", named, there.keys() - gone, made, MAX_CAPS)


def _what(place: QuotaPlace) -> str:
    return f"cap on {place.delegate_id} of {place.noted_as}"
