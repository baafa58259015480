"""The current fields of an object in the directory, those that documents can set."""

from smtpgate.directory.documents.current import Current
from smtpgate.directory.documents.fields import LIMITS, limit_fields, owner_text
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.documents.parts import DEFAULTS
from smtpgate.directory.quotas import QuotaKey, limits_in


def current_fields(current: Current, key: ObjectKey) -> Fields | None:
    """The fields of an object as they are now; ``None`` when it is not there."""
    reader = _READERS.get(key.kind)
    if reader is None:
        return current.parts.get(key, DEFAULTS.get(key.kind))
    return reader(current, key)


def _account(current: Current, key: ObjectKey) -> Fields | None:
    row = current.accounts.get(key.account_id)
    if row is None:
        return None
    names = ("name", "organization_id", "contact", *LIMITS, "paused_reason")
    return {name: getattr(row, name) for name in names}


def _user(current: Current, key: ObjectKey) -> Fields | None:
    row = current.users.get((key.account_id, key.subject))
    if row is None:
        return None
    limits = current.quota_of(QuotaKey.of_user(key.account_id, row.name))
    return {"path": row.path, "tags": dict(row.tags), **limit_fields(limits)}


def _access_key(current: Current, key: ObjectKey) -> Fields | None:
    row = current.access_keys.get(key.subject)
    if row is None:
        return None
    return {
        "owner": owner_text(row.account_id, row.user_name),
        "expires_at": row.expires_at,
        "networks": tuple(row.networks),
        "certificates": tuple(row.certificates),
        "is_active": row.is_active,
        **limit_fields(current.quota_of(QuotaKey.of_key(row.account_id, row.id))),
    }


def _identity(current: Current, key: ObjectKey) -> Fields | None:
    row = current.identities.get((key.account_id, key.subject))
    if row is None or row.region != key.region:
        return None
    return {
        "is_verified": row.is_verified and row.method == "trust",
        "paused_reason": row.paused_reason,
        "suppresses_delegates": row.suppresses_delegates,
    }


def _policy(current: Current, key: ObjectKey) -> Fields | None:
    owner = key.kind.removesuffix("-policy"), key.account_id, key.region, key.subject
    row = current.policies.get(owner, {}).get(key.name)
    return None if row is None else {"document": row.document}


def _dkim_key(current: Current, key: ObjectKey) -> Fields | None:
    row = current.dkim_keys_of(key.account_id, key.subject).get(key.name)
    if row is None or row.region != key.region:
        return None
    return {"record": row.record, "stage": row.stage}


def _cap(current: Current, key: ObjectKey) -> Fields | None:
    quota_key = QuotaKey.of_grant(key.account_id, key.region, key.subject, key.name)
    quota = current.quota_of(quota_key)
    return None if limits_in(quota) is None else limit_fields(quota)


_READERS = {
    "account": _account,
    "user": _user,
    "key": _access_key,
    "identity": _identity,
    "user-policy": _policy,
    "identity-policy": _policy,
    "dkim-key": _dkim_key,
    "cap": _cap,
}
