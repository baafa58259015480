"""Senders that have a reputation: accounts, and accounts as far as a set or identity goes."""

from typing import Literal

from msgspec import Struct

RatedKind = Literal["account", "set", "delegate"]


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
