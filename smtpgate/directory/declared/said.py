"""What documents say of each object, field by field, as it is compared and kept.

A field that a document leaves as it is (a pause, whether a key is active, trust, the stage of
a DKIM key) is not among them when the document does not say it. There is no secret among them,
and of a private key its public half alone.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from smtpgate.core.naming import user_key
from smtpgate.directory.declared.content import (
    Declared,
    DeclaredAccount,
    DeclaredDkimKey,
    DeclaredIdentity,
    DeclaredKey,
    DeclaredPolicy,
    DeclaredUser,
    Limits,
    Pause,
)
from smtpgate.directory.policies import PolicyPlace
from smtpgate.signing.private_keys import dns_record

# By the fields' names, which are those of the columns where there is one.
Said: TypeAlias = Mapping[str, Any]


class ObjectKey(NamedTuple):
    """Which object: the columns of ``applied_objects`` that say so."""

    kind: str
    account_id: str = ""
    region: str = ""
    subject: str = ""
    name: str = ""


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


def policy_key(place: PolicyPlace, name: str) -> ObjectKey:
    """A policy of a user or identity."""
    kind = f"{place.kind}-policy"
    return ObjectKey(kind, place.account_id, place.region, place.subject, name)


def dkim_object_key(account_id: str, region: str, domain: str, selector: str) -> ObjectKey:
    """A DKIM key of an identity."""
    return ObjectKey("dkim-key", account_id, region, domain, selector)


def cap_key(account_id: str, region: str, name: str, delegate_id: str) -> ObjectKey:
    """What an identity caps another account at."""
    return ObjectKey("cap", account_id, region, name, delegate_id)


def owner_text(account_id: str, user_name: str | None) -> str:
    """How the owner of an access key is compared: an account, or a user of it."""
    return account_id if user_name is None else f"{account_id}/{user_key(user_name)}"


def said_of_account(account: DeclaredAccount) -> Said:
    """Of an account itself."""
    return {
        "name": account.name,
        "organization_id": account.organization_id,
        "max_24h_send": account.max_24h_send,
        "max_send_rate_per_s": account.max_send_rate_per_s,
        **_pause(account.pause),
    }


def said_of_user(user: DeclaredUser) -> Said:
    """Of a user itself."""
    return {"path": user.path, "tags": dict(user.tags), **_limits(user.limits)}


def said_of_key(key: DeclaredKey) -> Said:
    """Of an access key, but for its secret."""
    return {
        "owner": owner_text(key.account_id, key.user_name),
        "expires_at": key.expires_at,
        "networks": key.networks,
        **_limits(key.limits),
        **({} if key.is_active is None else {"is_active": key.is_active}),
    }


def said_of_identity(identity: DeclaredIdentity) -> Said:
    """Of an identity itself."""
    verified = identity.is_verified
    return {
        **({} if verified is None else {"is_verified": verified}),
        **_pause(identity.pause),
    }


def said_of_policy(policy: DeclaredPolicy) -> Said:
    """Of a policy."""
    return {"document": policy.document}


def said_of_dkim_key(key: DeclaredDkimKey) -> Said:
    """Of a DKIM key; the record is its public half."""
    private_key = key.private_key
    return {
        **({} if private_key is None else {"record": dns_record(private_key)}),
        **({} if key.stage is None else {"stage": key.stage}),
    }


def said_of_cap(limits: Limits) -> Said:
    """Of a cap."""
    return _limits(limits)


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "max_24h_send": limits.max_24h_send,
        "max_send_rate_per_s": limits.max_send_rate_per_s,
    }


def _pause(pause: Pause) -> dict[str, Any]:
    return {} if pause.is_paused is None else {"paused_reason": pause.after(None)}


def all_said(declared: Declared, region: str) -> dict[ObjectKey, Said]:
    """Of every object that documents name, as it is kept."""
    return {key: plain(said) for key, said in _all_said(declared, region)}


def _all_said(declared: Declared, region: str) -> Iterator[tuple[ObjectKey, Said]]:
    for account in declared.accounts:
        yield account_key(account.id), said_of_account(account)
    for user in declared.users:
        yield user_object_key(user.account_id, user.name), said_of_user(user)
        place = PolicyPlace.of_user(user.account_id, user.name)
        for policy in user.policies:
            yield policy_key(place, policy.name), said_of_policy(policy)
    for key in declared.access_keys:
        yield key_key(key.id), said_of_key(key)
    for identity in declared.identities:
        owner = identity.account_id, region, identity.name
        yield identity_key(*owner), said_of_identity(identity)
        place = PolicyPlace.of_identity(*owner, "")
        for policy in identity.policies:
            yield policy_key(place, policy.name), said_of_policy(policy)
        for delegate_id, limits in identity.caps.items():
            yield cap_key(*owner, delegate_id), said_of_cap(limits)
        for dkim_key in identity.dkim_keys:
            yield dkim_object_key(*owner, dkim_key.selector), said_of_dkim_key(dkim_key)


def plain(value: Any) -> Any:  # noqa: ANN401 - whichever field it is
    """The value as JSON has it."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {key: plain(member) for key, member in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
    return value
