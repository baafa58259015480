"""Routes: which messages they take, and the upstreams that these may go to."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from smtpgate.core.routing.group import GroupMember

_IDENTITY: Final = ":identity/"


class RoutedMessage(Struct, frozen=True, gc=False):
    """The facts about a message by which it is routed; never its recipients.

    A message has one reply for all its recipients, so all of them are one upstream's.
    ``identity`` is the ARN of the identity that serves From. Mail of the gate itself has none
    of these facts.
    """

    account_id: str = ""
    identity: str = ""
    from_domain: str = ""
    listener: str = ""
    tags: Sequence[tuple[str, Sequence[str]]] = ()


class Conditions(Struct, frozen=True, gc=False):
    """The messages that a route takes: those with one of the values in each set.

    An empty set takes all. An identity is an ARN, or the name of a domain or an address; a
    domain of From covers its subdomains; a tag is ``NAME`` or ``NAME=VALUE``.
    """

    accounts: frozenset[str] = frozenset()
    identities: frozenset[str] = frozenset()
    from_domains: frozenset[str] = frozenset()
    listeners: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()

    @property
    def is_for_all(self) -> bool:
        """True if every message meets them."""
        return not any(self._sets())

    def met_by(self, message: RoutedMessage) -> str | None:
        """The facts of the message that meet them, in words; ``None`` if it does not."""
        words: list[str] = []
        for wanted, kind, values in (
            (self.accounts, "account", (message.account_id,)),
            (self.listeners, "listener", (message.listener,)),
            (self.from_domains, "From domain", tuple(_with_parents(message.from_domain))),
            (self.identities, "identity", _names_of(message.identity)),
            (self.tags, "tag", tuple(_forms_of(message.tags))),
        ):
            if not wanted:
                continue
            found = next((value for value in values if value in wanted), None)
            if not found:
                return None
            words.append(f"{kind} {found}")
        return ", ".join(words)

    def may_meet(self, listener: str, account_id: str) -> bool:
        """False if no message of that listener and account meets them.

        An empty account is one that is not known yet.
        """
        return (not self.listeners or listener in self.listeners) and (
            not self.accounts or not account_id or account_id in self.accounts
        )

    def must_meet(self, listener: str, account_id: str) -> bool:
        """True if all messages of that listener and account meet them."""
        return (
            not (self.identities or self.from_domains or self.tags)
            and self.may_meet(listener, account_id)
            and (not self.accounts or account_id in self.accounts)
        )

    def cover(self, others: "Conditions") -> bool:
        """True if each message that meets the others meets these too, by what they list."""
        return all(
            not mine or (theirs and theirs <= mine)
            for mine, theirs in zip(self._sets(), others._sets(), strict=True)
        )

    def _sets(self) -> tuple[frozenset[str], ...]:
        return self.accounts, self.identities, self.from_domains, self.listeners, self.tags


class RelayRoute(Struct, frozen=True, gc=False):
    """A way for messages: the upstreams of its group, then those of its fallback.

    ``max_signatures`` is the fewest DKIM signatures that one of them takes, ``None`` without
    such a limit. A route without a name is the only one.
    """

    name: str
    group: tuple[GroupMember, ...]
    fallback: tuple[GroupMember, ...] = ()
    conditions: Conditions = Conditions()
    max_signatures: int | None = None

    @property
    def members(self) -> tuple[GroupMember, ...]:
        """All upstreams that its messages may go to."""
        return self.group + self.fallback


def _with_parents(domain: str) -> Iterator[str]:
    """The domain, and those above it."""
    while domain:
        yield domain
        _, _, domain = domain.partition(".")


def _names_of(arn: str) -> tuple[str, ...]:
    return arn, arn.partition(_IDENTITY)[2]


def _forms_of(tags: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    for name, values in tags:
        yield from (f"{name}={value}" for value in values)
        yield name
