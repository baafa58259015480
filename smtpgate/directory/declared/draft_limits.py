"""Limits of users, access keys and grants in documents against those of the directory.

Raises stay what they are, also where a limit changes or goes.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Final

from smtpgate.directory.declared.content import DeclaredIdentity, Limits
from smtpgate.directory.declared.drafting import (
    Drafting,
    Order,
    Ordered,
    changed,
    differences,
    stated,
)
from smtpgate.directory.declared.plan import Step
from smtpgate.directory.quotas import MAX_CAPS, Quota, QuotaPlace, QuotaWrite, write_quotas

__all__ = ["cap_steps", "first_limits", "limits_told", "new_limits"]

_NONE: Final = Limits()


def first_limits(place: QuotaPlace, limits: Limits) -> QuotaWrite:
    """What gives its limits to a user or access key that is made."""
    return QuotaWrite(place, Quota(), Quota(**asdict(limits)))


def new_limits(drafting: Drafting, place: QuotaPlace, limits: Limits) -> QuotaWrite:
    """What makes the limits of a place those that are declared."""
    before = drafting.present.quota_of(place)
    return QuotaWrite(place, before, replace(before, **asdict(limits)))


def limits_told(write: QuotaWrite) -> str:
    """What changes, in words; nothing when nothing does."""
    return differences(write.before, changed(write.before, asdict(write.after)))


def cap_steps(drafting: Drafting, identity: DeclaredIdentity) -> Iterator[Ordered]:
    """What makes the caps of an identity those that are declared."""
    owner = identity.account_id, drafting.region, identity.name
    there, named = drafting.present.caps_of(*owner), identity.caps.keys()
    drafting.note_crowd(identity.place / "caps", named, there.keys(), MAX_CAPS)
    for delegate_id, limits in identity.caps.items():
        write = new_limits(drafting, QuotaPlace.of_grant(*owner, delegate_id), limits)
        if delegate_id not in there:
            how = stated(asdict(limits))
            yield Order.CAP, Step("+", _what(write.place), how, write_quotas, write)
        elif how := limits_told(write):
            yield Order.CAP, Step("~", _what(write.place), how, write_quotas, write)
    for delegate_id in sorted(there.keys() - named) if drafting.prune else ():
        write = new_limits(drafting, QuotaPlace.of_grant(*owner, delegate_id), _NONE)
        how = stated(write.before.without_raise().facts())
        yield Order.CAP_AWAY, Step("-", _what(write.place), how, write_quotas, write)


def _what(place: QuotaPlace) -> str:
    return f"cap on {place.delegate_id} of {place.noted_as}"
