"""The routes of the configuration: their errors, and the table that the path uses."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

from pydantic import Field

from smtpgate.config.sound_keys import Problem
from smtpgate.config.toml import Array, Table
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.config.values import AccountId, Domain, Name
from smtpgate.core.policy.problem import hint
from smtpgate.core.routing.group import GroupMember
from smtpgate.core.routing.route import Conditions, RelayRoute
from smtpgate.core.routing.routes import RouteTable

_SECTION: Final = "route"


class RouteConfig(Table):
    """``[[route]]``: the upstreams of the messages that meet its conditions."""

    name: Name | None = None
    upstreams: Annotated[Array[Name], Field(min_length=1)]
    fallback: Array[Name] = ()
    accounts: Array[AccountId] = ()
    identities: Array[Annotated[str, Field(min_length=1)]] = ()
    from_domains: Array[Domain] = ()
    listeners: Array[str] = ()
    tags: Array[Annotated[str, Field(min_length=1)]] = ()

    @property
    def conditions(self) -> Conditions:
        """The messages that it takes."""
        return Conditions(
            accounts=frozenset(self.accounts),
            identities=frozenset(self.identities),
            from_domains=frozenset(self.from_domains),
            listeners=frozenset(self.listeners),
            tags=frozenset(self.tags),
        )


def route_table(
    upstreams: Sequence[UpstreamConfig], routes: Sequence[RouteConfig]
) -> RouteTable:
    """The table of a configuration without errors."""
    of_name = {upstream.name: upstream for upstream in upstreams}
    if not routes:
        return RouteTable([_route("", list(of_name), (), of_name)])
    return RouteTable(
        [
            _route(name_of(route, at), route.upstreams, route.fallback, of_name, route)
            for at, route in enumerate(routes)
        ]
    )


def name_of(route: RouteConfig, at: int) -> str:
    """Its name; a route without one has its place, counted from 1."""
    return route.name or f"route-{at + 1}"


def _route(
    name: str,
    group: Iterable[str],
    fallback: Iterable[str],
    upstreams: dict[str, UpstreamConfig],
    route: RouteConfig | None = None,
) -> RelayRoute:
    def members(names: Iterable[str]) -> tuple[GroupMember, ...]:
        found = (upstreams[one] for one in names)
        return tuple(GroupMember(one.name, one.priority, one.weight) for one in found)

    made = RelayRoute(name, members(group), members(fallback))
    most = [upstreams[member.upstream].max_signatures for member in made.members]
    return RelayRoute(
        name,
        made.group,
        made.fallback,
        made.conditions if route is None else route.conditions,
        min((one for one in most if one is not None), default=None),
    )


def route_problems(
    upstreams: Sequence[UpstreamConfig], routes: Sequence[RouteConfig], ports: Sequence[str]
) -> Iterator[Problem]:
    """The errors of routes: each message must have one way."""
    known, names = [upstream.name for upstream in upstreams], set[str]()
    for at, route in enumerate(routes):
        yield from (
            ((_SECTION, at, *key), text) for key, text in _problems(route, known, ports)
        )
        name = name_of(route, at)
        if name in names:
            yield (_SECTION, at, "name"), f'"{name}" is the name of another route too'
        names.add(name)
        for before, earlier in enumerate(routes[:at]):
            if earlier.conditions.cover(route.conditions):
                taken = f'route "{name_of(earlier, before)}" takes all its messages'
                yield (_SECTION, at), f"is never reached: {taken}; put it before that one"
                break
    if routes and not any(route.conditions.is_for_all for route in routes):
        text = "the last one must have no conditions, for the messages that no other takes"
        yield (_SECTION,), text


def _problems(
    route: RouteConfig, known: Sequence[str], ports: Sequence[str]
) -> Iterator[Problem]:
    named = set[str]()
    for key, names in (("upstreams", route.upstreams), ("fallback", route.fallback)):
        for name in names:
            if name not in known:
                yield (key,), f"there is no [upstream.{name}]{hint(name, known)}"
            elif name in named:
                yield (key,), f"names {name} twice"
            named.add(name)
    for name in route.listeners:
        if name not in ports:
            yield ("listeners",), f'there is no listener "{name}"{hint(name, ports)}'


def unused_upstreams(
    upstreams: Sequence[UpstreamConfig], routes: Sequence[RouteConfig]
) -> Iterator[str]:
    """Warnings about upstreams that no route names."""
    named = {name for route in routes for name in (*route.upstreams, *route.fallback)}
    for upstream in upstreams if routes else ():
        if upstream.name not in named:
            yield f"upstream.{upstream.name}: no route names it, so it gets no messages"
