"""What commands ask outside of the directory: the DNS, and the upstream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom

from smtpgate.cli.terminal import fail
from smtpgate.config import Config
from smtpgate.core.upstream import CommandError
from smtpgate.dns.resolver import DnsResolver
from smtpgate.ports import Clock, Upstream
from smtpgate.relay.pool import PooledUpstream
from smtpgate.tasks import TaskOwner

_DRAIN_S = 1.0


def chance() -> float:
    """A number from 0 to below 1, for the time of the next question to the DNS."""
    return SystemRandom().random()


def resolver_of(config: Config) -> DnsResolver:
    """Whom the configuration asks."""
    return DnsResolver(
        config.dns.nameservers,
        timeout_s=config.dns.timeout_s,
        lifetime_s=config.dns.lifetime_s,
    )


@asynccontextmanager
async def upstream_of(config: Config, clock: Clock) -> AsyncIterator[Upstream]:
    """The next hop, closed afterwards. Exits with 1 when its configuration is of no use."""
    upstream, tasks = config.sole_upstream, TaskOwner()
    try:
        pool = PooledUpstream(upstream, clock=clock, tasks=tasks)
    except (OSError, CommandError) as error:
        raise fail(f"upstream.{upstream.name}: {error}") from None
    try:
        yield pool
    finally:
        await pool.close()
        await tasks.drain(_DRAIN_S)
