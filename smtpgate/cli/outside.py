"""What commands ask outside of the directory: the DNS, and the upstream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom

from smtpgate.cli.terminal import fail
from smtpgate.config import Config
from smtpgate.gate.clients import new_resolver, open_upstream
from smtpgate.gate.errors import OpenError
from smtpgate.ports import Clock, Upstream

resolver_of = new_resolver


def chance() -> float:
    """A number from 0 to below 1, for the time of the next question to the DNS."""
    return SystemRandom().random()


@asynccontextmanager
async def upstream_of(config: Config, clock: Clock) -> AsyncIterator[Upstream]:
    """The next hop, closed afterwards. Exits with 1 when its configuration is of no use."""
    try:
        async with open_upstream(config, clock) as upstream:
            yield upstream
    except OpenError as error:
        raise fail(error) from None
