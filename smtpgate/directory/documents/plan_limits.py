"""Limits of users, access keys and grants in documents against those of the directory.

Temporary limits stay, also where a limit changes or is deleted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from smtpgate.directory.documents.desired import DesiredIdentity, Limits
from smtpgate.directory.documents.fields import LIMITS, cap_key, limit_fields
from smtpgate.directory.documents.object_keys import ObjectKey
from smtpgate.directory.documents.plan import Step
from smtpgate.directory.documents.planning import Order, Ordered, Planning, differences, stated
from smtpgate.directory.quotas import MAX_CAPS, Quota, QuotaKey, QuotaWrite, write_quotas

_NONE: Final = Limits()


def first_limits(quota_key: QuotaKey, limits: Limits) -> QuotaWrite:
    """The write of the limits of a new user or access key."""
    return QuotaWrite(quota_key, Quota(), Quota(**asdict(limits)))


def new_limits(
    planning: Planning, quota_key: QuotaKey, changes: Mapping[str, Any]
) -> QuotaWrite:
    """The write that gives a quota those of the changed fields that are limits."""
    before = planning.current.quota_of(quota_key)
    limits = {name: changes[name] for name in LIMITS if name in changes}
    return QuotaWrite(quota_key, before, replace(before, **limits))


def limits_in_words(write: QuotaWrite) -> str:
    """The changes in words; empty without changes."""
    after = asdict(write.after)
    changes = {
        name: after[name] for name in LIMITS if getattr(write.before, name) != after[name]
    }
    return differences(write.before, changes)


def cap_steps(
    planning: Planning, identity: DesiredIdentity, owner_key: ObjectKey
) -> Iterator[Ordered]:
    """The steps that make the caps of an identity the desired ones."""
    owner = identity.account_id, planning.region, identity.name
    there, named = planning.current.caps_of(*owner), identity.caps.keys()
    made = set[str]()
    for delegate_id, limits in identity.caps.items():
        key, wanted = cap_key(*owner, delegate_id), limit_fields(limits)
        quota_key = QuotaKey.of_grant(*owner, delegate_id)
        what = _what(quota_key)
        if delegate_id not in there:
            if planning.makes(key, wanted, what, owner_key):
                made.add(delegate_id)
                write = new_limits(planning, quota_key, wanted)
                how, columns = stated(asdict(limits)), planning.columns(key, wanted)
                yield Order.CAP, Step("+", what, how, write_quotas, write, columns)
        elif changes := planning.changes(key, wanted, what):
            write, columns = (
                new_limits(planning, quota_key, changes),
                planning.columns(key, wanted),
            )
            how = limits_in_words(write)
            yield Order.CAP, Step("~", what, how, write_quotas, write, columns)
    gone = set[str]()
    for delegate_id in sorted(there.keys() - named):
        key, quota_key = cap_key(*owner, delegate_id), QuotaKey.of_grant(*owner, delegate_id)
        if planning.prunes(key, _what(quota_key)):
            gone.add(delegate_id)
            write = new_limits(planning, quota_key, asdict(_NONE))
            how = stated(write.before.without_raise().facts())
            columns = planning.columns(key)
            yield Order.CAP_AWAY, Step("-", _what(quota_key), how, write_quotas, write, columns)
    planning.note_crowd(identity.location / "caps", named, there.keys() - gone, made, MAX_CAPS)


def _what(quota_key: QuotaKey) -> str:
    return f"cap on {quota_key.delegate_id} of {quota_key.audit_subject}"
