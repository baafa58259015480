"""The upstreams together: a message goes to one of its route's, and on to the next if it must.

Only what failed before the final dot is tried at another upstream, and never what the first one
has answered: a refusal of MAIL, a recipient or the message is a verdict (see ``Cause`` for what
is none). Nor is a message whose refused recipients are recorded already: another upstream might
refuse others. All tries together have one deadline, the longest of the route's upstreams.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.routing.failed_try import FailedTry
from smtpgate.core.routing.group import GroupMember, by_priority
from smtpgate.core.routing.route import RelayRoute
from smtpgate.core.routing.routes import RouteTable
from smtpgate.core.upstream import Delivery, NotSent
from smtpgate.ports import DeliveryAttempt, Reading, UpstreamFacts
from smtpgate.relay.joint_facts import JointFacts
from smtpgate.relay.pool import PooledUpstream

# Stands for all accounts that no route names; an account that is not known yet may be any.
_ANY_OTHER: Final = "-"


class RoutedUpstream:
    """Several upstreams behind the Upstream port, by routes.

    ``chance`` gives random numbers of at least 0 and less than 1.
    """

    def __init__(
        self,
        pools: Mapping[str, PooledUpstream],
        routes: RouteTable,
        *,
        chance: Callable[[], float],
    ) -> None:
        self.pools = pools
        self.routes = routes
        self._chance = chance
        self._facts: dict[frozenset[str], UpstreamFacts] = {}
        self._reachable: dict[tuple[str, str], UpstreamFacts] = {}
        self._named_accounts = frozenset(
            chain.from_iterable(r.conditions.accounts for r in routes)
        )
        self._deadlines = {
            route.name: max(pools[member.upstream].deadline_s for member in route.members)
            for route in routes
        }

    def facts(self, listener: str, account_id: str = "") -> UpstreamFacts:
        """The facts of all upstreams that may get the messages of that listener and account.

        An empty account is one that is not known yet.
        """
        if account_id and account_id not in self._named_accounts:
            account_id = _ANY_OTHER
        key = listener, account_id
        facts = self._reachable.get(key)
        if facts is None:
            names = self.routes.reachable(*key)
            pools = [pool for name, pool in self.pools.items() if name in names]
            facts = self._facts.setdefault(
                names, pools[0] if len(pools) == 1 else JointFacts(pools)
            )
            self._reachable[key] = facts
        return facts

    def readings(self) -> Iterator[Reading]:
        """The state of each upstream's connections, for a scrape."""
        for pool in self.pools.values():
            yield from pool.readings()

    async def deliver(
        self, envelope: Envelope, message: Sequence[Body], attempt: DeliveryAttempt
    ) -> Delivery:
        """Carry out one mail transaction; every end that it can come to is a Delivery."""
        route = attempt.route or self.routes.default.route
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadlines[route.name]
        failure: NotSent | None = None
        for pool in self._in_order(route, attempt.account_id):
            delivery = await pool.deliver(envelope, message, attempt, deadline)
            if not isinstance(delivery, NotSent) or delivery.cause is None:
                return delivery
            failure = _graver(failure, delivery)
            if delivery.is_final or attempt.is_in_part:
                break
            attempt.failed += (FailedTry(pool.name, delivery.cause, delivery.problem),)
            if loop.time() >= deadline:
                break
        return failure or NotSent("upstream-unreachable")

    def _in_order(self, route: RelayRoute, account_id: str) -> Iterator[PooledUpstream]:
        """The upstreams in the order in which to try them.

        Among those of one priority the first is one that has room now.
        """
        for members in (route.group, route.fallback):
            if len(members) == 1:
                yield self.pools[members[0].upstream]
            elif members:
                yield from self._drawn(members, account_id)

    def _drawn(
        self, members: Sequence[GroupMember], account_id: str
    ) -> Iterator[PooledUpstream]:
        for equals in by_priority(members, self._chance()):
            pools = [self.pools[member.upstream] for member in equals]
            yield from sorted(pools, key=lambda one: not one.has_room_for(account_id))

    async def close(self) -> None:
        """Close idle connections; connections in use close when their transaction is over."""
        for pool in self.pools.values():
            await pool.close()


def _graver(failure: NotSent | None, delivery: NotSent) -> NotSent:
    """The failure of several that is reported: one that may pass, if there is one."""
    if failure is None or failure.cause == "extension" or delivery.is_final:
        return delivery
    return failure
