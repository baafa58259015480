"""The connections to the upstream mail servers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Final

from smtpgate.config import Config
from smtpgate.core.upstream import CommandError
from smtpgate.gate.errors import OpenError
from smtpgate.gate.tokens import OnToken, new_tokens
from smtpgate.ports import Clock
from smtpgate.relay import PooledUpstream, RoutedUpstream
from smtpgate.relay.pool import OnLimit
from smtpgate.tasks import TaskOwner

_DRAIN_S: Final = 1.0


def new_upstream(
    config: Config,
    clock: Clock,
    tasks: TaskOwner,
    on_limit: OnLimit | None = None,
    on_token: OnToken | None = None,
) -> RoutedUpstream:
    """The connections to the upstreams, none of them open yet. Raises OpenError."""
    pools: dict[str, PooledUpstream] = {}
    for upstream in map(config.with_helo, config.upstreams):
        try:
            pool = PooledUpstream(
                upstream,
                clock=clock,
                tasks=tasks,
                tokens=new_tokens(upstream, clock, tasks, on_token),
                on_limit=on_limit,
            )
        except (OSError, CommandError) as error:
            raise OpenError(f"upstream.{upstream.name}: {error}") from None
        pools[upstream.name] = pool
    return RoutedUpstream(pools, config.route_table, chance=SystemRandom().random)


@asynccontextmanager
async def open_upstream(config: Config, clock: Clock) -> AsyncIterator[RoutedUpstream]:
    """The upstreams, their connections closed afterwards. Raises OpenError."""
    tasks = TaskOwner()
    upstream = new_upstream(config, clock, tasks)
    try:
        yield upstream
    finally:
        await upstream.close()
        await tasks.drain(_DRAIN_S)
