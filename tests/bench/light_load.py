"""Load that costs little: clients and an upstream that only count what they are sent.

They run in a process of their own, so that the CPU of the gate's process is the gate's alone.
"""

import asyncio
import base64
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from typing import Final, cast

import uvloop

LOOPBACK: Final = "127.0.0.1"
_LINE: Final = (
    b"Dear customer, your recent order =E2=80=93 thank you for it =E2=80=93 is here.\r\n"
)
_HEADER: Final = b"""\
Received: from app-7.perf.example (app-7.perf.example [10.20.30.40])
\tby web-2.perf.example with ESMTP id 4XyZ123abc for <bob@dest.example>;
\tTue, 14 Oct 2025 09:26:53 +0000 (UTC)
Date: Tue, 14 Oct 2025 09:26:53 +0000
From: "Perf Example Billing" <user1@perf.example>
Reply-To: Support <support@perf.example>
To: "Bob Receiver" <bob@dest.example>
Subject: =?utf-8?Q?Your_order_=2314251_has_been_shipped_=E2=80=93_thank_you?=
Message-ID: <%d.14251.9f3e@app-7.perf.example>
MIME-Version: 1.0
X-Mailer: PerfMailer 3.2 (https://perf.example/mailer)
X-Campaign-Id: 2025-10-shipping-7f3a
List-Unsubscribe: <https://perf.example/u/0d4f8e7c2b>, <mailto:unsub@perf.example>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
Feedback-ID: 14251:shipping:perf
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

""".replace(b"\n", b"\r\n")


class LightSink(asyncio.Protocol):
    """Knows what a pipelining client with one recipient sends, and answers that."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"220 sink.example.net\r\n")
        self.is_in_message = False

    def data_received(self, data: bytes) -> None:
        if self.is_in_message:
            if data.endswith(b"\r\n.\r\n"):
                self.is_in_message = False
                self.transport.write(b"250 2.0.0 Ok: queued as 4XyZ1234\r\n")
        elif data.startswith(b"MAIL"):
            self.is_in_message = True
            self.transport.write(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with a dot\r\n")
        elif data.startswith(b"EHLO"):
            self.transport.write(b"250-sink.example.net\r\n250-SIZE\r\n250 PIPELINING\r\n")
        else:
            self.transport.close()


@dataclass(frozen=True)
class Load:
    """A load: so many connections at a time, each for some messages, for so long."""

    port: int
    username: str
    password: str
    seconds: float
    octets: int = 4096
    connections: int = 16
    messages_each: int = 10


class _Client(asyncio.Protocol):
    """One connection in lock step: each reply is waited for before the next command."""

    def __init__(self, load: Load, numbers: Iterator[int], done: asyncio.Future[int]) -> None:
        self._done = done
        self._steps = _steps(load, numbers)
        self._accepted = 0
        self._wanted = b"220"
        self._replies = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._replies += data
        last_line = self._replies[self._replies.rfind(b"\n", 0, -1) + 1 :]
        if not data.endswith(b"\n") or last_line[3:4] == b"-":
            return
        if not last_line.startswith(self._wanted):
            self._transport.abort()
            self._done.set_exception(RuntimeError(f"{self._wanted!r} and not {last_line!r}"))
            return
        self._accepted += last_line.startswith(b"250 2.0.0 Ok 0")
        self._replies = b""
        octets, self._wanted = next(self._steps, (b"", b""))
        if octets:
            self._transport.write(octets)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(self._accepted)


def _steps(load: Load, numbers: Iterator[int]) -> Iterator[tuple[bytes, bytes]]:
    plain = base64.b64encode(f"\0{load.username}\0{load.password}".encode())
    body = _LINE * ((load.octets - len(_HEADER)) // len(_LINE))
    yield b"EHLO client.perf.example\r\n", b"250"
    yield b"AUTH PLAIN " + plain + b"\r\n", b"235"
    for _ in range(load.messages_each):
        yield b"MAIL FROM:<user1@perf.example>\r\n", b"250"
        yield b"RCPT TO:<bob@dest.example>\r\n", b"250"
        yield b"DATA\r\n", b"354"
        yield _HEADER % next(numbers) + body + b".\r\n", b"250"
    yield b"QUIT\r\n", b"221"


def _as_it_is(client: _Client) -> _Client:
    return client


async def _send(load: Load) -> int:
    """Send for so long; the number of accepted messages."""
    loop, numbers = asyncio.get_running_loop(), count(1)
    until = loop.time() + load.seconds

    async def keep_sending() -> int:
        accepted = 0
        while loop.time() < until:
            client = _Client(load, numbers, done := loop.create_future())
            await loop.create_connection(partial(_as_it_is, client), LOOPBACK, load.port)
            accepted += await done
        return accepted

    return sum(await asyncio.gather(*(keep_sending() for _ in range(load.connections))))


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(LightSink, LOOPBACK, 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while (load := await loop.run_in_executor(None, pipe.recv)) is not None:
            pipe.send(await _send(load))
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


class LoadProcess:
    """The process with the clients and the upstream, whose port is ``sink_port``."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.sink_port: int = pipe.recv()

    def send(self, load: Load) -> int:
        """Send for so long; the number of accepted messages."""
        self._pipe.send(load)
        accepted: int = self._pipe.recv()
        return accepted


@contextmanager
def load_process() -> Iterator[LoadProcess]:
    """Start the process; it ends when the context is left."""
    ours, theirs = multiprocessing.Pipe()
    target: Callable[[Connection], None] = _serve
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield LoadProcess(ours)
    finally:
        ours.send(None)
        process.join(30)
