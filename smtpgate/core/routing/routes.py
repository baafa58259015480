"""The table of routes: the first one that a message meets is its way."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from smtpgate.core.routing.group import GroupMember
from smtpgate.core.routing.route import RelayRoute, RoutedMessage

# The reason of a route that takes all messages.
_DEFAULT: Final = "default"


class Choice(Struct, frozen=True, gc=False):
    """The route of a message, and what of the message it was chosen for, in words."""

    route: RelayRoute
    reason: str = ""


class RouteTable:
    """The routes in their order; the last one takes what no other does."""

    def __init__(self, routes: Sequence[RelayRoute]) -> None:
        self._routes = tuple(routes)
        self.default = Choice(self._routes[-1], _DEFAULT if self._routes[-1].name else "")
        # Where there is one way for all messages, nothing needs to be looked at.
        self.only = self.default if len(self._routes) == 1 else None

    def __iter__(self) -> Iterator[RelayRoute]:
        return iter(self._routes)

    def choose(self, message: RoutedMessage) -> Choice:
        """The way of a message."""
        for route in self._routes[:-1]:
            reason = route.conditions.met_by(message)
            if reason is not None:
                return Choice(route, reason or _DEFAULT)
        return self.default

    def reachable(self, listener: str, account_id: str = "") -> frozenset[str]:
        """The upstreams that may get a message of that listener and account.

        An empty account is one that is not known yet.
        """
        found: list[GroupMember] = []
        for route in self._routes:
            if route.conditions.may_meet(listener, account_id):
                found += route.members
                if route.conditions.must_meet(listener, account_id):
                    break
        return frozenset(member.upstream for member in found)
