"""References to the subjects of use cases: a user, an owner of access keys, an identity."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from smtpgate.core.arn import ArnError, IdentityArn, identity_name


@dataclass(frozen=True, slots=True)
class UserRef:
    """A user of an account."""

    account_id: str
    name: str

    def __str__(self) -> str:
        return f"{self.account_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """The owner of access keys: a user, or an account's root when ``user_name`` is ``None``."""

    account_id: str
    user_name: str | None

    def __str__(self) -> str:
        return f"{self.account_id}/{self.user_name}" if self.user_name else self.account_id


@dataclass(frozen=True, slots=True)
class AccessKeyRef:
    """An access key."""

    id: str


@dataclass(frozen=True, slots=True)
class IdentityRef:
    """An identity of an account; ``arn`` is set if the identity was named by its ARN.

    The name is brought to its one spelling if it is a domain or an address.
    """

    account_id: str
    name: str
    arn: IdentityArn | None = None

    def __post_init__(self) -> None:
        with suppress(ArnError):
            object.__setattr__(self, "name", identity_name(self.name))

    @property
    def is_domain(self) -> bool:
        """True for a domain, false for a single address."""
        return "@" not in self.name

    def __str__(self) -> str:
        return f"{self.account_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class TaggedRef:
    """A resource that can have tags: an identity, a configuration set, or a topic."""

    account_id: str
    kind: Literal["identity", "set", "topic"]
    name: str


@dataclass(frozen=True, slots=True)
class CapRef:
    """A cap: the most that an identity's owner lets another account send with it."""

    identity: IdentityRef
    delegate_id: str


@dataclass(frozen=True, slots=True)
class DelegateRef:
    """An account that sends by an identity of another."""

    identity: IdentityRef
    account_id: str


@dataclass(frozen=True, slots=True)
class TopicRef:
    """A topic of an account."""

    account_id: str
    name: str

    def __str__(self) -> str:
        return f"{self.account_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """A template of messages."""

    account_id: str
    name: str


@dataclass(frozen=True, slots=True)
class SubscriptionRef:
    """A subscription, by its ARN."""

    topic: TopicRef
    arn: str

    def __str__(self) -> str:
        return self.arn


@dataclass(frozen=True, slots=True)
class ConfigurationSetRef:
    """A configuration set of an account."""

    account_id: str
    name: str

    def __str__(self) -> str:
        return f"{self.account_id}/{self.name}"
