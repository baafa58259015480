"""The connections to the upstream mail servers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import SystemRandom
from typing import Final

from smtpgate.config import Config
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.config.values import is_same_place, share_an_address
from smtpgate.core.upstream import CommandError
from smtpgate.gate.errors import OpenError
from smtpgate.gate.tokens import new_tokens
from smtpgate.ports import AccessTokens, Clock
from smtpgate.relay import PooledUpstream, RoutedUpstream, WatchedUpstream
from smtpgate.relay.client_tls import OnFiles
from smtpgate.relay.connection import reason_of
from smtpgate.relay.names import Names
from smtpgate.relay.pool import OnLimit, Tell
from smtpgate.relay.watched import OnState
from smtpgate.tasks import TaskOwner

_DRAIN_S: Final = 1.0
_RESOLVER_S: Final = 5.0

TokensOf = Callable[[UpstreamConfig], AccessTokens | None]


def new_upstream(
    config: Config,
    clock: Clock,
    tasks: TaskOwner,
    on_limit: OnLimit | None = None,
    tokens: TokensOf | None = None,
    on_state: OnState | None = None,
    on_files: OnFiles | None = None,
    tell_peers: Tell | None = None,
) -> RoutedUpstream:
    """The connections to the upstreams, none of them open yet. Raises OpenError.

    ``tokens`` gives those of an upstream; without it this process fetches its own.
    """
    tokens_of = tokens or partial(new_tokens, clock=clock, tasks=tasks)
    watched: list[WatchedUpstream] = []
    for upstream in map(config.with_helo, config.upstreams):
        try:
            pool = PooledUpstream(
                upstream,
                clock=clock,
                tasks=tasks,
                tokens=tokens_of(upstream),
                on_limit=on_limit,
                on_files=on_files,
                tell_peers=tell_peers,
            )
        except (OSError, CommandError) as error:
            raise OpenError(f"upstream.{upstream.name}: {error}") from None
        watched.append(
            WatchedUpstream(
                pool,
                upstream,
                clock=clock,
                tasks=tasks,
                on_state=on_state,
                tell_peers=tell_peers,
            )
        )
    return RoutedUpstream(watched, config.route_table, chance=SystemRandom().random)


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


async def suspicious_upstreams(config: Config) -> list[str]:
    """Warnings about upstreams whose names are not found, or lead to the gate itself."""
    found = await asyncio.gather(*(suspicion_about(config, one) for one in config.upstreams))
    return [warning for warning in found if warning]


async def suspicion_about(config: Config, upstream: UpstreamConfig) -> str:
    """A warning about one upstream, or an empty text."""
    key = f"upstream.{upstream.name}.host"
    names = Names(upstream.host, upstream.port)
    try:
        async with asyncio.timeout(_RESOLVER_S):
            addresses = await names.addresses()
    except TimeoutError:
        return f"{key}: the resolver gave no answer for {upstream.host} in {_RESOLVER_S:g} s"
    except OSError as error:
        return f"{key}: {upstream.host} cannot be resolved: {reason_of(error)}"
    finally:
        names.close()
    hosts = {str(address[0]) for *_, address in addresses}
    for section, address, port in config.addresses():
        if port == upstream.port and any(_leads_to(host, address) for host in hosts):
            return f"{key}: {upstream.host} leads to {section} of this gate: mail would loop"
    return ""


def _leads_to(host: str, address: str) -> bool:
    """True if a connection to that host reaches a socket of this machine on the address."""
    if is_same_place(address, host):
        return True
    return share_an_address(address, host) and _is_own(host)


def _is_own(host: str) -> bool:
    """True if the address is one of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
