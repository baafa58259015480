"""One connection over a transport that holds octets back, on a loop whose time can be moved."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import (
    Answered,
    InDoubt,
    Octets,
    Terms,
    UpstreamUnavailableError,
)
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay.connection import Connection
from smtpgate.tasks import LoopTurns, Offload, Threads
from tests.support.clock import MovableClock, MovableLoop, move_loop, settle
from tests.support.rows import rows
from tests.support.upstream_server import TO_BOB, TO_BOTH, UpstreamServer

MESSAGE: list[Octets] = [b"Subject: Spring\r\n\r\n", b"Hello\r\n"]
TERMS = Terms(name="next", helo="gate.example.com", tls="off")
ENVELOPE_TAKEN = b"250 ok\r\n250 ok\r\n354 go\r\n"


class Pipe(asyncio.Transport):
    """A transport that keeps what is written, and can hold it back or fail."""

    def __init__(self, protocol: Connection, clock: MovableClock) -> None:
        super().__init__()
        self.protocol = protocol
        self._clock = clock
        self.written: list[bytes] = []
        self.is_holding = False
        self.is_broken = False
        self.is_ended = asyncio.Event()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        return {"socket": self, "peername": ("192.0.2.1", 25)}.get(name, default)

    def setsockopt(self, *_: int) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (1, 0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._clock.move(0.003)  # no turn of the loop has time for two
        self.written.append(bytes(data))
        if data[-5:] == b"\r\n.\r\n":
            self.is_ended.set()
        if self.is_holding:
            self.protocol.pause_writing()

    def is_closing(self) -> bool:
        return self.is_broken

    def abort(self) -> None:
        self.is_broken = True


@asynccontextmanager
async def opened(
    envelope: Envelope = TO_BOB,
    *,
    message: list[Octets] = MESSAGE,
    deadline_s: float = 1000,
    **settings: object,
) -> AsyncIterator[tuple[Connection, Pipe, asyncio.Task[Answered | InDoubt]]]:
    """A connection whose server has been sent the envelope."""
    loop = asyncio.get_running_loop()
    config = UpstreamServer((), None).config(**settings)
    closed: list[Connection] = []
    clock = MovableClock()
    offload = Offload(LoopTurns(clock.monotonic), Threads("upstream"))
    connection = Connection(config, TERMS, loop.time() + 1000, closed.append, offload)
    pipe = Pipe(connection, clock)
    connection.connection_made(pipe)
    ready = asyncio.create_task(connection.become_ready(None, ""))
    connection.data_received(b"220 mx\r\n")
    connection.data_received(b"250-mx\r\n250 PIPELINING\r\n")
    await ready
    delivery = asyncio.create_task(
        connection.deliver(envelope, message, loop.time() + deadline_s, DeliveryAttempt())
    )
    await settle()
    yield connection, pipe, delivery
    connection.connection_lost(None)
    assert closed == [connection]


async def stalled_and_lost() -> None:
    async with opened() as (connection, pipe, delivery):
        pipe.is_holding = True
        connection.data_received(ENVELOPE_TAKEN)
        assert pipe.written[-1].endswith(b"\r\n.\r\n")
        connection.connection_lost(ConnectionResetError(104, "reset"))
        with pytest.raises(UpstreamUnavailableError, match="connection reset by peer"):
            await delivery


async def stalled_and_silent() -> None:
    async with opened(data_timeout_s=5) as (connection, pipe, delivery):
        pipe.is_holding = True
        connection.data_received(ENVELOPE_TAKEN)
        await move_loop(6)
        assert delivery.done()
        with pytest.raises(
            UpstreamUnavailableError, match="no answer to the message within 5 s"
        ):
            await delivery


async def let_go_and_lost() -> None:
    async with opened() as (connection, pipe, delivery):
        pipe.is_holding = True
        connection.data_received(ENVELOPE_TAKEN)
        connection.resume_writing()
        connection.connection_lost(ConnectionResetError(104, "reset"))
        assert await delivery == InDoubt("upstream next: connection reset by peer")


async def let_go_and_answered() -> None:
    async with opened() as (connection, pipe, delivery):
        pipe.is_holding = True
        connection.data_received(ENVELOPE_TAKEN)
        connection.resume_writing()
        connection.data_received(b"250 2.0.0 queued\r\n")
        answer = await delivery
        assert isinstance(answer, Answered)
        assert answer.is_accepted
        assert connection.is_ready()


async def broken_at_the_write() -> None:
    async with opened() as (connection, pipe, delivery):
        pipe.is_broken = True
        connection.data_received(ENVELOPE_TAKEN)
        connection.connection_lost(BrokenPipeError(32, "broken"))
        with pytest.raises(UpstreamUnavailableError, match="broken pipe"):
            await delivery


async def sent_and_lost() -> None:
    async with opened() as (connection, _, delivery):
        connection.data_received(ENVELOPE_TAKEN)
        connection.connection_lost(None)
        assert await delivery == InDoubt("upstream next: it closed the connection")


async def own_time_for_each_reply() -> None:
    async with opened(TO_BOTH, command_timeout_s=5) as (connection, pipe, delivery):
        for _ in range(3):
            await move_loop(4)
            connection.data_received(b"250 ok\r\n")
        assert pipe.written[-1] == b"DATA\r\n"
        await move_loop(4)
        connection.data_received(b"354 go\r\n")
        await move_loop(4)
        connection.data_received(b"250 queued\r\n")
        answer = await delivery
        assert isinstance(answer, Answered)
        assert answer.is_accepted


async def octets_that_end_no_reply() -> None:
    """A server that drips octets gains no time by it."""
    async with opened(command_timeout_s=5) as (connection, _, delivery):
        for octet in b"250-":
            connection.data_received(bytes([octet]))
            await move_loop(1.3)
        assert delivery.done()
        with pytest.raises(UpstreamUnavailableError, match="no answer to MAIL within 5 s"):
            await delivery


async def deadline() -> None:
    async with opened(command_timeout_s=5, deadline_s=7) as (connection, _, delivery):
        await move_loop(4)
        connection.data_received(b"250 ok\r\n")
        await move_loop(4)
        assert delivery.done()
        with pytest.raises(UpstreamUnavailableError, match="no answer to RCPT before the dead"):
            await delivery


async def shorter_time_after_a_longer() -> None:
    """The timer of a long wait does not hold up the end of a shorter one behind it."""
    async with opened(command_timeout_s=100, data_timeout_s=5) as (connection, _, delivery):
        connection.data_received(ENVELOPE_TAKEN)
        await move_loop(6)
        assert delivery.done()
        problem = "upstream next: no answer to the message within 5 s"
        assert await delivery == InDoubt(problem)


async def idle() -> None:
    async with opened(command_timeout_s=5) as (connection, _, delivery):
        connection.data_received(ENVELOPE_TAKEN)
        connection.data_received(b"250 queued\r\n")
        await delivery
        await move_loop(1000)
        assert connection.is_ready()


async def turns_for_others() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    message: list[Octets] = [b"Subject: Spring\r\n\r\n", b"0123456789abcd\r\n" * 200_000]
    async with opened(message=message) as (connection, pipe, delivery):
        other = asyncio.create_task(others())
        connection.data_received(ENVELOPE_TAKEN)
        await pipe.is_ended.wait()
        writes = len(pipe.written) - 2
        assert writes > 10
        assert turns >= writes
        assert max(map(len, pipe.written)) < 300_000
        connection.data_received(b"250 queued\r\n")
        answer = await delivery
        assert isinstance(answer, Answered)
        assert answer.is_accepted
        other.cancel()


@rows(
    "scene",
    [
        stalled_and_lost,
        stalled_and_silent,
        let_go_and_lost,
        let_go_and_answered,
        broken_at_the_write,
        sent_and_lost,
        own_time_for_each_reply,
        octets_that_end_no_reply,
        deadline,
        shorter_time_after_a_longer,
        idle,
        turns_for_others,
    ],
)
def test_a_connection(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        runner.run(scene())
