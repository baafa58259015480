"""Messages under way to two upstreams that come and go: each is sent once, and none is lost."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from random import Random
from typing import Final, cast

import pytest

from smtpgate.core.upstream import Answered, Delivery, InDoubt
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay import RoutedUpstream
from tests.support.clock import MovableLoop
from tests.support.routed import named, routed_to
from tests.support.rows import rows
from tests.support.upstream_server import HANG_UP, TO_BOB, UpstreamServer, open_upstream

_MESSAGES: Final = 1500
_SENDERS: Final = 12
_TRIES: Final = 200
# The trouble that a server may have for a while, by the step at which it shows.
_TROUBLES: Final[tuple[dict[str, str], ...]] = (
    {"CONNECT": HANG_UP},
    {"CONNECT": "421 4.3.2 stopping"},
    {"MAIL": "421 4.7.0 later"},
    {"DATA": HANG_UP},
    {"RCPT": "451 4.3.0 disk full"},
    {},
    {},
)


async def trouble(servers: list[UpstreamServer], random: Random) -> None:
    """One server at a time has some trouble, and may lose all its connections."""
    loop = cast("MovableLoop", asyncio.get_running_loop())
    while True:
        server = random.choice(servers)
        server.answers = dict(random.choice(_TROUBLES))
        if random.random() < 0.5:
            server.drop_all()
        await asyncio.sleep(0.01)
        server.answers = {}
        loop.ahead_s += 0.4


async def send_some(
    upstream: RoutedUpstream, numbers: Iterator[int], ends: dict[int, Delivery]
) -> None:
    """Send messages as a client does: again, when one was neither accepted nor is in doubt."""
    for number in numbers:
        message = [b"Subject: %d\r\n\r\nHello\r\n" % number]
        for _ in range(_TRIES):
            attempt = DeliveryAttempt(str(number % 5))
            ends[number] = delivery = await upstream.deliver(TO_BOB, message, attempt)
            if isinstance(delivery, InDoubt) or (
                isinstance(delivery, Answered) and delivery.is_accepted
            ):
                break
            await asyncio.sleep(0.02)


@pytest.mark.slow
@rows("seed", range(3))
async def test_each_message_is_accepted_once_while_upstreams_come_and_go(seed: int) -> None:
    random, numbers, ends = Random(seed), iter(range(_MESSAGES)), dict[int, Delivery]()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(open_upstream("PIPELINING")) for _ in "ab"]
        configs = [
            named(server, f"up{at}", max_connections=4, weight=1 + at)
            for at, server in enumerate(servers)
        ]
        upstream = await stack.enter_async_context(routed_to(*configs, chance=random.random))
        upstream.start()
        troubled = asyncio.create_task(trouble(servers, random))
        await asyncio.gather(*(send_some(upstream, numbers, ends) for _ in range(_SENDERS)))
        troubled.cancel()
        await asyncio.wait([troubled])
        judge(servers, ends)


def judge(servers: list[UpstreamServer], ends: dict[int, Delivery]) -> None:
    arrived = Counter(
        int(message.split()[1]) for server in servers for message in server.messages
    )
    accepted = [number for number, end in ends.items() if isinstance(end, Answered)]
    assert len(ends) == _MESSAGES
    assert all(arrived[number] == 1 for number in accepted)
    assert max(arrived.values()) == 1, "one was sent again after its final dot"
    unsure = [number for number, end in ends.items() if not isinstance(end, Answered)]
    assert all(isinstance(ends[number], InDoubt) for number in unsure), "it was given up"
    assert len(unsure) < _MESSAGES / 20
    assert all(len(server.messages) > _MESSAGES / 10 for server in servers)
