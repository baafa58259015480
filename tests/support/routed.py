"""Several upstreams with routes, as the relay has them, and what became of a message there."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from smtpgate.clock import SystemClock
from smtpgate.config.routes import RouteConfig, route_table
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.ports import Clock
from smtpgate.relay import PooledUpstream, RoutedUpstream, WatchedUpstream
from smtpgate.relay.pool import Tell
from smtpgate.relay.watched import OnState
from smtpgate.tasks import TaskOwner
from tests.support.upstream_server import UpstreamServer


def new_routed(
    configs: Sequence[UpstreamConfig],
    tasks: TaskOwner,
    routes: Sequence[RouteConfig] = (),
    *,
    clock: Clock | None = None,
    chance: Callable[[], float] = lambda: 0.0,
    on_state: OnState | None = None,
    tell_peers: Tell | None = None,
) -> RoutedUpstream:
    """The upstreams of these configurations, without connections yet."""
    clock = clock or SystemClock()
    watched = [
        WatchedUpstream(
            PooledUpstream(one, clock=clock, tasks=tasks, tell_peers=tell_peers),
            one,
            clock=clock,
            tasks=tasks,
            on_state=on_state,
            tell_peers=tell_peers,
        )
        for one in configs
    ]
    return RoutedUpstream(watched, route_table(configs, routes), chance=chance)


@asynccontextmanager
async def routed_to(
    *configs: UpstreamConfig,
    routes: Sequence[RouteConfig] = (),
    clock: Clock | None = None,
    chance: Callable[[], float] = lambda: 0.0,
    on_state: OnState | None = None,
    tell_peers: Tell | None = None,
) -> AsyncIterator[RoutedUpstream]:
    """The relay under test; no connection outlives it."""
    tasks = TaskOwner()
    upstream = new_routed(
        configs,
        tasks,
        routes,
        clock=clock,
        chance=chance,
        on_state=on_state,
        tell_peers=tell_peers,
    )
    try:
        yield upstream
    finally:
        await upstream.close()
        await tasks.drain(1)
        assert not any(pool.open_connections for pool in upstream.pools.values())


def named(server: UpstreamServer, name: str, **settings: object) -> UpstreamConfig:
    """The settings of that upstream."""
    return server.config(name=name, **settings)
