"""The upstreams together: a message goes to one of its route's, and on to the next if it must.

Only what failed before the final dot is tried at another upstream, and never what the first one
has answered: a refusal of MAIL, a recipient or the message is a verdict (see ``Cause`` for what
is none). Nor is a message whose refused recipients are recorded already: another upstream might
refuse others. All tries together have one deadline, the longest of the route's upstreams.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from typing import Final

from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.routing.failed_try import FailedTry
from smtpgate.core.routing.group import by_priority
from smtpgate.core.routing.notes import RecipientLimitSeen, RelayNote, UpstreamFailed
from smtpgate.core.routing.route import RelayRoute
from smtpgate.core.routing.routes import RouteTable
from smtpgate.core.upstream import Answered, Delivery, NotSent
from smtpgate.ports import DeliveryAttempt, Reading, UpstreamFacts
from smtpgate.relay.joint_facts import JointFacts
from smtpgate.relay.traced import trace_failure
from smtpgate.relay.watched import WatchedUpstream

# Stands for all accounts that no route names; an account that is not known yet may be any.
_ANY_OTHER: Final = "-"
# The name in metrics of the only route of a configuration without routes.
_UNNAMED: Final = "default"
# The state of an upstream or a route that can be used, in checks.
UP: Final = "up"

_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}


class RoutedUpstream:
    """Several upstreams behind the Upstream port, by routes.

    ``chance`` gives random numbers of at least 0 and less than 1.
    """

    def __init__(
        self,
        watched: Sequence[WatchedUpstream],
        routes: RouteTable,
        *,
        chance: Callable[[], float],
    ) -> None:
        self._watched = {one.name: one for one in watched}
        self.pools = pools = {one.name: one.pool for one in watched}
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
        # Most gates have one upstream, and messages need not look for an order there.
        self._sole = {
            route.name: (self._watched[route.members[0].upstream],)
            for route in routes
            if len(route.members) == 1
        }

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, kept as in a pool."""
        return asyncio.get_running_loop()

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

    def take(self, note: RelayNote) -> None:
        """Take a note of another worker, which may have another configuration for a moment."""
        if note.upstream not in self.pools:
            return
        match note:
            case UpstreamFailed(name, problem):
                self._watched[name].failed_elsewhere(problem)
            case RecipientLimitSeen(name, limit):
                self.pools[name].note_recipient_limit(limit)

    def start(self) -> None:
        """Probe the upstreams from now on."""
        for one in self._watched.values():
            one.start()

    def readings(self) -> Iterator[Reading]:
        """The state of each upstream and of its connections, for a scrape."""
        for one in tuple(self._watched.values()):
            yield from one.pool.readings()
            name = (one.name,)
            yield Reading("smtpgate_upstream_up", float(not one.problem), name)
            yield Reading("smtpgate_upstream_breaker", _STATES[one.breaker.state], name)
        for route in self.routes:
            is_up = float(self._is_usable(route))
            yield Reading("smtpgate_route_up", is_up, (route.name or _UNNAMED,))

    def checks(self) -> Mapping[str, Callable[[], tuple[bool, str]]]:
        """The checks of readiness: of each upstream, and of each route that has a name.

        All of them fail when no route has an upstream that can be used, and else none: a gate
        that can send some mail should get it.
        """
        found = {f"upstream.{name}": partial(self.check, name) for name in self._watched}
        for route in self.routes:
            if route.name:
                found[f"route.{route.name}"] = partial(self._check_route, route)
        return found

    def check(self, name: str) -> tuple[bool, str]:
        """The state of an upstream, and false if no message can be relayed at all."""
        problem = self._watched[name].problem
        return self._can_relay(), f"down: {problem}" if problem else UP

    def _check_route(self, route: RelayRoute) -> tuple[bool, str]:
        """The state of a route, and false if no message can be relayed at all."""
        if self._is_usable(route):
            return True, UP
        names = ", ".join(dict.fromkeys(member.upstream for member in route.members))
        return self._can_relay(), f"down: none of its upstreams can be used ({names})"

    def _can_relay(self) -> bool:
        return any(map(self._is_usable, self.routes))

    def _is_usable(self, route: RelayRoute) -> bool:
        """True if an upstream of the route can be used, as far as is known."""
        return any(not self._watched[member.upstream].problem for member in route.members)

    async def deliver(
        self, envelope: Envelope, message: Sequence[Body], attempt: DeliveryAttempt
    ) -> Delivery:
        """Carry out one mail transaction; every end that it can come to is a Delivery."""
        route = attempt.route or self.routes.default.route
        time = self._loop.time
        deadline = time() + self._deadlines[route.name]
        failure: NotSent | None = None
        sole = self._sole.get(route.name)
        if sole is not None and sole[0].breaker.state == "closed":
            upstreams: Iterable[WatchedUpstream] = sole
        else:
            upstreams = self._in_order(route, attempt)
        for one in upstreams:
            breaker = one.breaker
            breaker.on_trial += 1
            try:
                delivery = await one.pool.deliver(envelope, message, attempt, deadline)
            finally:
                breaker.on_trial -= 1
            one.note(delivery, attempt, sum(map(len, message)), time())
            if isinstance(delivery, Answered):
                return delivery
            trace_failure(one.pool.name, one.pool.terms, delivery.problem)
            if not isinstance(delivery, NotSent) or delivery.cause is None:
                return delivery
            attempt.failed += (FailedTry(one.name, delivery.cause, delivery.problem),)
            failure = _graver(failure, delivery)
            if delivery.is_final or attempt.is_in_part or time() >= deadline:
                break
        if failure is None or failure.cause == "extension":
            # One that was not asked may have the extension, when it is back.
            return _not_asked(attempt) or failure or NotSent("upstream-unreachable")
        return failure

    def _in_order(
        self, route: RelayRoute, attempt: DeliveryAttempt
    ) -> Iterator[WatchedUpstream]:
        """The upstreams in the order in which to try them; those that are open are not.

        Those that are only a last resort come after all others.
        """
        last: list[WatchedUpstream] = []
        for one in self._by_preference(route, attempt.account_id):
            stand = one.stand(self._loop.time())
            if stand == "ready":
                yield one
            elif stand == "last resort":
                last.append(one)
            else:
                problem = one.breaker.problem
                text = f"left alone, because it failed lately: {problem}"
                trace_failure(one.pool.name, one.pool.terms, text)
                attempt.failed += (FailedTry(one.name, "open", problem),)
        yield from last

    def _by_preference(self, route: RelayRoute, account_id: str) -> Iterator[WatchedUpstream]:
        """The upstreams by priority and weight, those of the group first.

        Among those of one priority the first is one that has room now.
        """
        for members in (route.group, route.fallback):
            if len(members) == 1:
                yield self._watched[members[0].upstream]
            elif members:
                for equals in by_priority(members, self._chance()):
                    found = [self._watched[member.upstream] for member in equals]
                    yield from sorted(
                        found, key=lambda one: not one.pool.has_room_for(account_id)
                    )

    async def close(self) -> None:
        """Close idle connections; connections in use close when their transaction is over."""
        for one in self._watched.values():
            one.stop()
        for pool in self.pools.values():
            await pool.close()


def _not_asked(attempt: DeliveryAttempt) -> NotSent | None:
    """The failure of the first upstream that failed lately, and so was not asked."""
    problems = (one.problem for one in attempt.failed if one.cause == "open")
    problem = next(problems, None)
    return None if problem is None else NotSent("upstream-unreachable", problem)


def _graver(failure: NotSent | None, delivery: NotSent) -> NotSent:
    """The failure of several that is reported: one that may pass, if there is one."""
    if failure is None or failure.cause == "extension" or delivery.is_final:
        return delivery
    return failure
