"""Names in commands: ``ACCOUNT``, ``ACCOUNT/USER``, ``ACCOUNT/IDENTITY`` or an ARN."""

from dataclasses import dataclass

from smtpgate.admin.refs import (
    AccessKeyRef,
    ConfigurationSetRef,
    IdentityRef,
    OwnerRef,
    SubscriptionRef,
    TopicRef,
    UserRef,
)
from smtpgate.core.arn import identity_arn, identity_name, is_account_id
from smtpgate.core.naming import access_key_id, account_id, user_name
from smtpgate.core.notification.names import SnsArn, configuration_set_name, topic_name


@dataclass(frozen=True, slots=True)
class LimitsRef:
    """The subject of limits: an account, a user, an access key, or an identity."""

    ref: OwnerRef | AccessKeyRef | IdentityRef


@dataclass(frozen=True, slots=True)
class RatedRef:
    """An account, or an identity with its delegates."""

    ref: str | IdentityRef


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
        arn = identity_arn(text)
        return IdentityRef(arn.account_id, arn.name, arn)
    account, slash, name = text.partition("/")
    if not slash:
        raise ValueError(f"`{text}' names no identity: write ACCOUNT/NAME, or its ARN")
    return IdentityRef(account_id(account), identity_name(name))


def topic_ref(text: str) -> TopicRef:
    """``ACCOUNT/NAME`` or a topic's ARN. Raises ValueError."""
    if text.startswith("arn:"):
        arn = SnsArn.parse(text)
        if arn.id is not None:
            raise ValueError(f"`{text}' names a subscription, not a topic")
        return TopicRef(arn.account_id, arn.name)
    account, slash, name = text.partition("/")
    if not slash:
        raise ValueError(f"`{text}' names no topic: write ACCOUNT/NAME, or its ARN")
    return TopicRef(account_id(account), topic_name(name))


def subscription_ref(text: str) -> SubscriptionRef:
    """A subscription's ARN. Raises ValueError."""
    arn = SnsArn.parse(text)
    if arn.id is None:
        raise ValueError(f"`{text}' names a topic, not a subscription")
    return SubscriptionRef(TopicRef(arn.account_id, arn.name), text)


def configuration_set_ref(text: str) -> ConfigurationSetRef:
    """``ACCOUNT/NAME``. Raises ValueError."""
    account, slash, name = text.partition("/")
    if not slash:
        raise ValueError(f"`{text}' names no configuration set: write ACCOUNT/NAME")
    return ConfigurationSetRef(account_id(account), configuration_set_name(name))


def rated_ref(text: str) -> RatedRef:
    """``ACCOUNT``, or the identity ``ACCOUNT/NAME`` or its ARN. Raises ValueError."""
    return RatedRef(account_id(text) if is_account_id(text) else identity_ref(text))


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
