"""Names in commands: ``ACCOUNT``, ``ACCOUNT/USER``, ``ACCOUNT/IDENTITY`` or an ARN."""

from dataclasses import dataclass

from smtpgate.admin.refs import AccessKeyRef, IdentityRef, OwnerRef, UserRef
from smtpgate.core.arn import IdentityArn, identity_name, is_account_id
from smtpgate.core.naming import access_key_id, account_id, user_name


@dataclass(frozen=True, slots=True)
class LimitsRef:
    """The subject of limits: an account, a user, an access key, or an identity."""

    ref: OwnerRef | AccessKeyRef | IdentityRef


def user_ref(text: str) -> UserRef:
    """``ACCOUNT/NAME``. Raises ValueError."""
    account, slash, name = text.partition("/")
    if not slash:
        raise ValueError(f"`{text}' names no user: write ACCOUNT/NAME")
    return UserRef(account_id(account), user_name(name))


def owner_ref(text: str) -> OwnerRef:
    """``ACCOUNT`` for its root, ``ACCOUNT/NAME`` for a user. Raises ValueError."""
    if "/" not in text:
        return OwnerRef(account_id(text), None)
    user = user_ref(text)
    return OwnerRef(user.account_id, user.name)


def identity_ref(text: str) -> IdentityRef:
    """``ACCOUNT/DOMAIN``, ``ACCOUNT/ADDRESS`` or an identity's ARN. Raises ValueError."""
    if text.startswith("arn:"):
        arn = IdentityArn.parse(text)
        return IdentityRef(arn.account_id, arn.name, arn)
    account, slash, name = text.partition("/")
    if not slash:
        raise ValueError(f"`{text}' names no identity: write ACCOUNT/NAME, or its ARN")
    return IdentityRef(account_id(account), identity_name(name))


def limits_ref(text: str) -> LimitsRef:
    """``ACCOUNT``, ``ACCOUNT/USER``, an access key's id, or an ARN. Raises ValueError."""
    if text.startswith("arn:"):
        return LimitsRef(identity_ref(text))
    if "/" in text or is_account_id(text):
        return LimitsRef(owner_ref(text))
    try:
        return LimitsRef(AccessKeyRef(access_key_id(text)))
    except ValueError:
        raise ValueError(
            f"`{text}' is neither ACCOUNT, ACCOUNT/USER, an access key's id nor an ARN"
        ) from None
