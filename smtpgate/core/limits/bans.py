"""Clients that are banned for a while, because they failed too often; pure, without a clock.

Failures fill a bucket that leaks. When it is full the client is banned: at first for a short
time, each time twice as long, up to a bound. A client that gives no cause for as long as that
bound has one ban fewer behind it. The number of clients that are remembered is bounded: the
one that failed longest ago is forgotten first, and one that is banned last.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from msgspec import Struct

_LOOKED_AT: Final = 16
_A_LITTLE: Final = 1e-6


class BanRules(Struct, frozen=True, gc=False):
    """The bounds: so many failures in so many seconds, and the times of bans in seconds."""

    max_failures: int = 20
    window_s: float = 600
    first_s: float = 60
    longest_s: float = 86_400
    max_clients: int = 10_000


class Ban(Struct, frozen=True, gc=False):
    """A ban of a client until a moment; ``number`` counts its bans, this one too.

    0 is for a ban that a person made.
    """

    client: str
    until_s: float
    number: int


class ClientFailed(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """A client failed, at another worker of the gate."""

    client: str
    points: float
    at_s: float


class ClientStanding(Struct, frozen=True, gc=False, array_like=True):
    """A client's failures as of a moment, and its bans, as another process needs them."""

    client: str
    level: float
    at_s: float
    bans: int
    until_s: float


@dataclass(slots=True)
class _Standing:
    """A client's failures as of a moment, and its bans."""

    level: float = 0.0
    at_s: float = 0.0
    bans: int = 0
    until_s: float = 0.0


class Bans:
    """All clients that failed lately; times are seconds since 1970."""

    def __init__(self, rules: BanRules) -> None:
        self._rules = rules
        self._of: dict[str, _Standing] = {}  # the latest failure last

    def __len__(self) -> int:
        return len(self._of)

    def use(self, rules: BanRules) -> None:
        """Go on by other rules; bans that are in force stay."""
        self._rules = rules
        self._forget_excess(0.0)

    def fail(self, client: str, points: float, now_s: float) -> Ban | None:
        """Note a failure of so many points; the ban that begins with it, if one does."""
        rules, standing = self._rules, self._of.pop(client, None) or _Standing()
        self._of[client] = standing
        self._relieve(standing, now_s)
        ban: Ban | None = None
        if standing.until_s <= now_s:
            standing.level += points
            # Between failures a part of one has leaked, however fast they come.
            if standing.level > rules.max_failures - 1 + _A_LITTLE:
                ban = self._begin(client, standing, now_s)
        self._forget_excess(now_s)
        return ban

    def _relieve(self, standing: _Standing, now_s: float) -> None:
        """Take off what is forgiven since the last failure, or since the end of a ban."""
        rules = self._rules
        past_s = max(0.0, now_s - standing.at_s)
        standing.level = max(0.0, standing.level - past_s * rules.max_failures / rules.window_s)
        quiet_s = max(0.0, now_s - max(standing.at_s, standing.until_s))
        standing.bans = max(0, standing.bans - int(quiet_s // rules.longest_s))
        standing.at_s = max(standing.at_s, now_s)

    def _begin(self, client: str, standing: _Standing, now_s: float) -> Ban:
        rules = self._rules
        # Not doubled without end: the number of bans must make no number that is too large.
        times = 2.0 ** min(standing.bans, 64)
        standing.level, standing.bans = 0.0, standing.bans + 1
        standing.until_s = now_s + min(rules.longest_s, rules.first_s * times)
        return Ban(client, standing.until_s, standing.bans)

    def until(self, client: str, now_s: float) -> float | None:
        """The end of the client's ban; ``None`` if it is not banned."""
        standing = self._of.get(client)
        return None if standing is None or standing.until_s <= now_s else standing.until_s

    def add(self, client: str, until_s: float, now_s: float) -> None:
        """Ban a client until then; it has no more bans behind it by that."""
        standing = self._of.pop(client, None) or _Standing(at_s=now_s)
        self._of[client] = standing
        standing.until_s = until_s
        self._forget_excess(now_s)

    def remove(self, client: str) -> bool:
        """Forget all about a client; true if something was known."""
        return self._of.pop(client, None) is not None

    def in_force(self, now_s: float) -> list[Ban]:
        """All bans in force, the one that ends first at the beginning."""
        found = [
            Ban(client, one.until_s, one.bans)
            for client, one in self._of.items()
            if one.until_s > now_s
        ]
        return sorted(found, key=lambda ban: (ban.until_s, ban.client))

    def standings(self) -> tuple[ClientStanding, ...]:
        """All that is known of clients, for :meth:`restore`."""
        return tuple(
            ClientStanding(client, one.level, one.at_s, one.bans, one.until_s)
            for client, one in self._of.items()
        )

    def restore(self, standings: Iterable[ClientStanding]) -> None:
        """Know these clients as another list did; nothing else is known yet."""
        for one in standings:
            self._of[one.client] = _Standing(one.level, one.at_s, one.bans, one.until_s)

    def _forget_excess(self, now_s: float) -> None:
        while len(self._of) > self._rules.max_clients:
            oldest = list(islice(self._of.items(), _LOOKED_AT))
            free = [client for client, one in oldest if one.until_s <= now_s]
            del self._of[free[0] if free else oldest[0][0]]
