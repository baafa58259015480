"""The ban list: clients that failed too often are turned away at connect, for a while.

It reads the events of sessions: failed logins are worth a point, and a session that ends for
its errors before a login, or that does not wait for replies, is worth more. Only guesses of
passwords count as failed logins: an application whose key was revoked attacks nobody. A client
is an address, or a /64 network of IPv6. Networks that are trusted are never banned, and
loopback never. All workers of a gate know the same failures; their parent knows them too, for
those that start later.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import ClassVar, Final, TypeAlias

from smtpgate.core.events import (
    AuthFailed,
    BudgetExhausted,
    ClientBanned,
    ClientEvent,
    CommandRefused,
    Event,
)
from smtpgate.core.limits.bans import Ban, BanRules, Bans, ClientFailed, ClientStanding
from smtpgate.core.message.envelope import network_of_client
from smtpgate.ports import Clock, EventSink

Networks: TypeAlias = Sequence[IPv4Network | IPv6Network]

_LOGIN_POINTS: Final = 1.0
_GUESSES: Final = frozenset(
    {"invalid-credentials", "other-identity", "invalid-token", "token-without-login"}
)
_SESSION_POINTS: Final = 5.0
_OF_STRANGERS: Final = frozenset({"errors", "input-before-auth"})
_EARLY: Final = "too-early"


class BanList:
    """The bans of one process. Implements EventSink; it belongs to one event loop."""

    reads: ClassVar[tuple[type, ...]] = (ClientEvent,)

    def __init__(
        self,
        rules: BanRules | None,
        trusted: Networks,
        *,
        clock: Clock,
        events: EventSink,
        tell_peers: Callable[[ClientFailed], None] | None = None,
    ) -> None:
        """Without ``rules`` nobody is banned, but by a person."""
        self._bans = Bans(rules or BanRules())
        self._is_on, self._trusted = rules is not None, trusted
        self._clock, self._events = clock, events
        self._tell_peers = tell_peers

    def use(self, rules: BanRules | None, trusted: Networks) -> None:
        """Go on by other rules; bans that are in force stay, unless the network is trusted."""
        self._is_on, self._trusted = rules is not None, trusted
        self._bans.use(rules or BanRules())
        for ban in self.in_force():
            if self._is_trusted(ban.client.partition("/")[0]):
                self._bans.remove(ban.client)

    # -- sessions ------------------------------------------------------------------------------

    def is_banned(self, address: str) -> bool:
        """True if the client is to be turned away."""
        if not self._bans:  # as it mostly is
            return False
        return self._bans.until(network_of_client(address), self._now_s()) is not None

    def publish(self, event: Event) -> None:
        """Count an event against its client."""
        if not self._is_on or not isinstance(event, ClientEvent):
            return
        points = _points_of(event)
        if not points or self._is_trusted(event.client.address):
            return
        client, now_s = network_of_client(event.client.address), event.at.timestamp()
        ban = self._bans.fail(client, points, now_s)
        if self._tell_peers is not None:
            self._tell_peers(ClientFailed(client, points, now_s))
        if ban is not None:
            until = datetime.fromtimestamp(ban.until_s, UTC)
            self._events.publish(
                ClientBanned(event.client, event.at, client, until, ban.number)
            )

    def take(self, note: ClientFailed) -> None:
        """Count a failure at another worker, which reports a ban."""
        if self._is_on:
            _ = self._bans.fail(note.client, note.points, note.at_s)

    def standings(self) -> tuple[ClientStanding, ...]:
        """All that is known of clients, for a worker that starts later."""
        return self._bans.standings()

    def restore(self, standings: Iterable[ClientStanding]) -> None:
        """Begin with what the workers that there are already know of clients."""
        self._bans.restore(standings)

    # -- people --------------------------------------------------------------------------------

    def in_force(self) -> list[Ban]:
        """All bans in force."""
        return self._bans.in_force(self._now_s())

    def add(self, address: str, until_s: float) -> None:
        """Ban a client until then, as a person wants it.

        Raises ValueError for no address, and for loopback.
        """
        if ip_address(address).is_loopback:
            raise ValueError(f"{address}: loopback is never banned")
        self._bans.add(network_of_client(address), until_s, self._now_s())

    def remove(self, address: str) -> bool:
        """End a ban, and forget all failures; false if nothing was known of the client.

        Raises ValueError for no address.
        """
        _ = ip_address(address)
        return self._bans.remove(network_of_client(address))

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    def _is_trusted(self, address: str) -> bool:
        try:
            known = ip_address(address)
        except ValueError:
            return True  # of no network, so nobody could be kept out
        if isinstance(known, IPv6Address) and known.ipv4_mapped is not None:
            known = known.ipv4_mapped
        return known.is_loopback or any(known in network for network in self._trusted)


def _points_of(event: ClientEvent) -> float:
    """The points of an event; 0 for most."""
    match event:
        case AuthFailed(reason=reason):
            return _LOGIN_POINTS if reason in _GUESSES else 0.0
        case BudgetExhausted(client=client, budget=budget):
            is_strange = budget in _OF_STRANGERS and not client.account_id
            return _SESSION_POINTS if is_strange else 0.0
        case CommandRefused(client=client, reply=reply):
            return _SESSION_POINTS if reply.name == _EARLY and not client.account_id else 0.0
        case _:
            return 0.0
