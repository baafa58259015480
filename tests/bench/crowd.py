"""Many clients at once: they connect, log in, and send in the same moment, again and again."""

import asyncio
import base64
import multiprocessing
import ssl
import time
from typing import Final

import uvloop

from tests.support.daemons import LOOPBACK
from tests.support.gate import LOGIN, SENDER, letter

# Twice as many are below listener.max_connections_per_client: the gate may not have seen yet
# that those of the round before have hung up.
_CLIENTS_AN_ADDRESS: Final = 45
_PLAIN: Final = base64.b64encode(f"\0{LOGIN.username}\0{LOGIN.password}".encode()).decode()
_BODY: Final = "Hello.\r\n" * 500


class _Client:
    """One client that is logged in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def _say(self, *commands: str) -> str:
        """Say these together; the last reply."""
        self._writer.write("".join(f"{one}\r\n" for one in commands).encode())
        reply = b""
        for _ in commands:
            while (reply := await self._reader.readline())[3:4] == b"-":
                pass
        return reply.decode()

    async def log_in(self) -> None:
        """Read the greeting, and log in."""
        await self._reader.readline()
        await self._say("EHLO x")
        reply = await self._say(f"AUTH PLAIN {_PLAIN}")
        assert reply.startswith("235"), reply

    async def send(self, number: int) -> None:
        """Send a message; it must be accepted."""
        rcpt = "RCPT TO:<bob@example.net>"
        await self._say(f"MAIL FROM:<{SENDER}>", rcpt, "DATA")
        self._writer.write(letter(f"n{number}", _BODY) + b".\r\n")
        reply = await self._reader.readline()
        assert reply.startswith(b"250"), reply

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def _connected(port: int, number: int, context: ssl.SSLContext | None) -> _Client:
    source = f"127.0.0.{2 + number // _CLIENTS_AN_ADDRESS}", 0
    opened = asyncio.open_connection(LOOPBACK, port, ssl=context, local_addr=source)
    client = _Client(*await opened)
    await client.log_in()
    return client


async def _come(port: int, ca_file: str | None, count: int, seconds: float) -> int:
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    until, rounds = time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < until:
        clients = await asyncio.gather(
            *(_connected(port, one, context) for one in range(count))
        )
        await asyncio.gather(*(one.send(rounds) for one in clients))
        for one in clients:
            one.close()
        rounds += 1
    return rounds


async def _stay(port: int, ca_file: str | None, count: int, seconds: float) -> int:
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    clients = [await _connected(port, one, context) for one in range(count)]
    until, rounds = time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < until:
        await asyncio.gather(*(one.send(rounds) for one in clients))
        rounds += 1
    return rounds


def _run(
    stays: bool,
    port: int,
    ca_file: str | None,
    count: int,
    seconds: float,
    rounds: "multiprocessing.Queue[int]",
) -> None:
    work = _stay if stays else _come
    rounds.put(uvloop.run(work(port, ca_file, count, seconds)))


def crowd(*, stays: bool, port: int, ca_file: str | None, count: int, seconds: float) -> int:
    """Have so many clients for so long, in a process of their own; their rounds.

    In each round, of one at least, each sends a message; clients that do not stay connect
    again.
    """
    spawn = multiprocessing.get_context("spawn")
    rounds: multiprocessing.Queue[int] = spawn.Queue()
    words = (stays, port, ca_file, count, seconds, rounds)
    process = spawn.Process(target=_run, args=words)
    process.start()
    process.join()
    return rounds.get(timeout=5)
