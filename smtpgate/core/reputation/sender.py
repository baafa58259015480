"""Senders that have a reputation: accounts, and accounts as far as a set or identity goes."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

RatedKind = Literal["account", "set", "delegate"]
RatedObject = Literal["set", "identity"]


class RatedSender(Struct, frozen=True, gc=False, order=True):
    """A sending account, or its mail with one configuration set or by another's identity.

    ``name`` is the configuration set of a ``set``, and the identity of a ``delegate``, whose
    owner is ``owner_id``. Both are empty for an ``account``, ``owner_id`` also for a ``set``.
    """

    kind: RatedKind
    account_id: str
    owner_id: str = ""
    name: str = ""

    @classmethod
    def account(cls, account_id: str) -> "RatedSender":
        """All mail of an account."""
        return cls("account", account_id)

    @classmethod
    def with_set(cls, account_id: str, name: str) -> "RatedSender":
        """The mail of an account with one of its configuration sets."""
        return cls("set", account_id, "", name)

    @classmethod
    def delegate(cls, account_id: str, owner_id: str, name: str) -> "RatedSender":
        """The mail of an account by an identity that another account owns."""
        return cls("delegate", account_id, owner_id, name)

    def __str__(self) -> str:
        if self.kind == "account":
            return f"account {self.account_id}"
        if self.kind == "set":
            return f"configuration set {self.account_id}/{self.name}"
        return f"account {self.account_id} by identity {self.owner_id}/{self.name}"


class RatedMail(Struct, frozen=True, gc=False, order=True):
    """Mail of one account by one identity, with a configuration set or with an empty name."""

    account_id: str
    owner_id: str
    identity: str
    configuration_set: str = ""

    def senders(self) -> Iterator[RatedSender]:
        """All senders whose rates it is part of."""
        yield RatedSender.account(self.account_id)
        if self.configuration_set:
            yield RatedSender.with_set(self.account_id, self.configuration_set)
        if self.owner_id and self.owner_id != self.account_id:
            yield RatedSender.delegate(self.account_id, self.owner_id, self.identity)


class RatingSettings(Struct, frozen=True, gc=False):
    """A configuration set whose mail is judged, or an identity whose delegates are.

    ``auto_pause``: they are paused for their rates.
    """

    kind: RatedObject
    account_id: str
    name: str
    auto_pause: bool = False

    @classmethod
    def key_of(cls, sender: RatedSender) -> tuple[RatedObject, str, str] | None:
        """Kind, account and name of the object whose settings judge it; none for an account."""
        if sender.kind == "set":
            return "set", sender.account_id, sender.name
        if sender.kind == "delegate":
            return "identity", sender.owner_id, sender.name
        return None

    @property
    def key(self) -> tuple[RatedObject, str, str]:
        """Kind, account and name."""
        return self.kind, self.account_id, self.name
