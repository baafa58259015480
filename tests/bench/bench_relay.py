"""The cost of the relay: CPU a 4 KiB message, over a kept connection, on uvloop and on asyncio.

The sink is a process of its own, so that only the relay's CPU counts.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import pytest
import uvloop

from smtpgate.clock import SystemClock
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import Octets
from smtpgate.relay import PooledUpstream
from smtpgate.tasks import TaskOwner
from tests.bench.peers.programs import compiled
from tests.bench.peers.sink import open_sink
from tests.support.daemons import Lab
from tests.support.deliveries import deliver

pytestmark = pytest.mark.bench

MESSAGES: Final = 8000
SENDERS: Final = 16
LINE: Final = b"Dear customer, the quick brown fox jumps over the lazy dog again.\r\n"


async def _send(port: int, octets: int, count: int, senders: int) -> tuple[float, float]:
    config = UpstreamConfig(
        name="sink", host="127.0.0.1", port=port, tls="off", helo="gate.example.com"
    )
    tasks = TaskOwner()
    upstream = PooledUpstream(config, clock=SystemClock(), tasks=tasks)
    envelope = Envelope.of(
        ReversePath(Mailbox("alice", "example.com")), [Mailbox("bob", "example.net")]
    )
    head = b"".join(b"X-Field-%d: some words of a header field\r\n" % n for n in range(15))
    message: list[Octets] = [head + b"\r\n", LINE * ((octets - len(head)) // len(LINE))]

    async def send(some: int) -> None:
        for _ in range(some):
            assert (await deliver(upstream, envelope, message)).is_accepted

    await asyncio.gather(*(send(20) for _ in range(senders)))
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(send(count // senders) for _ in range(senders)))
    spent = time.process_time() - cpu, time.perf_counter() - wall
    await upstream.close()
    return spent


@pytest.mark.parametrize("octets", [4096, 65536, 1 << 20], ids=["4k", "64k", "1m"])
@pytest.mark.parametrize("senders", [1, SENDERS])
@pytest.mark.parametrize(
    "loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"]
)
def test_delivery(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], senders: int, octets: int
) -> None:
    count = max(MESSAGES * 4096 // octets, 320)
    with Lab() as lab, open_sink(lab, compiled(lab.folder).sink) as sink:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            cpu, wall = runner.run(_send(sink.port, octets, count, senders))
        assert sink.counts().messages >= count
    print(
        f"\n{octets // 1024:5} KiB, {senders:2} senders: {cpu / count * 1e3:.3f} ms CPU, "
        f"{count / wall:,.0f} messages/s"
    )
