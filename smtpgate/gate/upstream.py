"""The connections to the upstream mail server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from smtpgate.config import Config
from smtpgate.core.upstream import CommandError
from smtpgate.gate.errors import OpenError
from smtpgate.ports import Clock
from smtpgate.relay.pool import PooledUpstream
from smtpgate.tasks import TaskOwner

_DRAIN_S: Final = 1.0


def new_upstream(
    config: Config,
    clock: Clock,
    tasks: TaskOwner,
    on_limit: Callable[[int, str], None] | None = None,
) -> PooledUpstream:
    """The connections to the upstream, none of them open yet. Raises OpenError."""
    upstream = config.sole_upstream
    try:
        return PooledUpstream(upstream, clock=clock, tasks=tasks, on_limit=on_limit)
    except (OSError, CommandError) as error:
        raise OpenError(f"upstream.{upstream.name}: {error}") from None


@asynccontextmanager
async def open_upstream(config: Config, clock: Clock) -> AsyncIterator[PooledUpstream]:
    """The upstream, its connections closed afterwards. Raises OpenError."""
    tasks = TaskOwner()
    pool = new_upstream(config, clock, tasks)
    try:
        yield pool
    finally:
        await pool.close()
        await tasks.drain(_DRAIN_S)
