"""The fields of each object in documents, as they are compared and stored.

A field that a document leaves as it is (a pause, whether a key is active, trust, the stage of
a DKIM key) is not among them when the document does not say it. There is no secret among them,
and of a private key its public half alone.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from smtpgate.core.naming import user_key
from smtpgate.directory.documents.desired import (
    Desired,
    DesiredAccount,
    DesiredDkimKey,
    DesiredIdentity,
    DesiredKey,
    DesiredPolicy,
    DesiredUser,
    Limits,
    Pause,
)
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.policies import PolicyOwner
from smtpgate.directory.quotas import Quota
from smtpgate.signing.private_keys import dns_record

LIMITS: Final = ("max_24h_send", "max_send_rate_per_s")


def account_key(account_id: str) -> ObjectKey:
    """An account."""
    return ObjectKey("account", account_id)


def user_object_key(account_id: str, name: str) -> ObjectKey:
    """A user."""
    return ObjectKey("user", account_id, "", user_key(name))


def key_key(key_id: str) -> ObjectKey:
    """An access key, whose owner may change."""
    return ObjectKey("key", "", "", key_id)


def identity_key(account_id: str, region: str, name: str) -> ObjectKey:
    """An identity."""
    return ObjectKey("identity", account_id, region, name)


def policy_key(owner: PolicyOwner, name: str) -> ObjectKey:
    """A policy of a user or identity."""
    kind = f"{owner.kind}-policy"
    return ObjectKey(kind, owner.account_id, owner.region, owner.subject, name)


def dkim_object_key(account_id: str, region: str, domain: str, selector: str) -> ObjectKey:
    """A DKIM key of an identity."""
    return ObjectKey("dkim-key", account_id, region, domain, selector)


def cap_key(account_id: str, region: str, name: str, delegate_id: str) -> ObjectKey:
    """A cap of an identity on another account."""
    return ObjectKey("cap", account_id, region, name, delegate_id)


def owner_text(account_id: str, user_name: str | None) -> str:
    """The owner of an access key for comparisons: an account, or a user of it."""
    return account_id if user_name is None else f"{account_id}/{user_key(user_name)}"


def fields_of_account(account: DesiredAccount) -> Fields:
    """Of an account itself."""
    return {
        "name": account.name,
        "organization_id": account.organization_id,
        "contact": account.contact,
        **limit_fields(account),
        **_pause(account.pause),
    }


def fields_of_user(user: DesiredUser) -> Fields:
    """Of a user itself."""
    return {"path": user.path, "tags": dict(user.tags), **limit_fields(user.limits)}


def fields_of_key(key: DesiredKey) -> Fields:
    """Of an access key, but for its secret."""
    return {
        "owner": owner_text(key.account_id, key.user_name),
        "expires_at": key.expires_at,
        "networks": key.networks,
        "certificates": key.certificates,
        **limit_fields(key.limits),
        **({} if key.is_active is None else {"is_active": key.is_active}),
    }


def fields_of_identity(identity: DesiredIdentity) -> Fields:
    """Of an identity itself."""
    verified, suppresses = identity.is_verified, identity.suppresses_delegates
    return {
        **({} if suppresses is None else {"suppresses_delegates": suppresses}),
        **({} if verified is None else {"is_verified": verified}),
        **_pause(identity.pause),
    }


def fields_of_policy(policy: DesiredPolicy) -> Fields:
    """Of a policy."""
    return {"document": policy.document}


def fields_of_dkim_key(key: DesiredDkimKey) -> Fields:
    """Of a DKIM key; the record is its public half."""
    private_key = key.private_key
    return {
        **({} if private_key is None else {"record": dns_record(private_key)}),
        **({} if key.stage is None else {"stage": key.stage}),
    }


def limit_fields(limits: Limits | Quota | DesiredAccount) -> dict[str, Any]:
    """The limits of an account, user, access key or cap."""
    return {name: getattr(limits, name) for name in LIMITS}


def _pause(pause: Pause) -> dict[str, Any]:
    return {} if pause.is_paused is None else {"paused_reason": pause.after(None)}


def all_fields(desired: Desired, region: str) -> dict[ObjectKey, Fields]:
    """Of every object that documents name, as it is kept."""
    found = {key: plain(wanted) for key, wanted in _all_fields(desired, region)}
    return found | {part.key: plain(part.wanted) for part in desired.parts}


def _all_fields(desired: Desired, region: str) -> Iterator[tuple[ObjectKey, Fields]]:
    for account in desired.accounts:
        yield account_key(account.id), fields_of_account(account)
    for user in desired.users:
        yield user_object_key(user.account_id, user.name), fields_of_user(user)
        policy_owner = PolicyOwner.of_user(user.account_id, user.name)
        for policy in user.policies:
            yield policy_key(policy_owner, policy.name), fields_of_policy(policy)
    for key in desired.access_keys:
        yield key_key(key.id), fields_of_key(key)
    for identity in desired.identities:
        owner = identity.account_id, region, identity.name
        yield identity_key(*owner), fields_of_identity(identity)
        policy_owner = PolicyOwner.of_identity(*owner, "")
        for policy in identity.policies:
            yield policy_key(policy_owner, policy.name), fields_of_policy(policy)
        for delegate_id, limits in identity.caps.items():
            yield cap_key(*owner, delegate_id), limit_fields(limits)
        for dkim_key in identity.dkim_keys:
            yield dkim_object_key(*owner, dkim_key.selector), fields_of_dkim_key(dkim_key)


def plain(value: Any) -> Any:  # noqa: ANN401 - the value of any field
    """The value as JSON has it."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {key: plain(member) for key, member in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
    return value
