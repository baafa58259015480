"""An upstream whose every answer a test can choose, over real sockets.

It speaks decent SMTP but for what a test sets: ``answers`` maps a verb (``CONNECT`` for the
greeting, ``MESSAGE`` for the final dot, ``HANDSHAKE`` for one without a certificate) to
another answer, or to a function of the command.
Three answers are none: HANG_UP, SILENCE, and HOLD, which waits for :meth:`release`. For a
relay without a gate SILENCE also lets time pass, longer than the relay waits for an answer.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.message.envelope import Envelope
from smtpgate.ports import Clock
from smtpgate.relay import PooledUpstream
from smtpgate.relay.client_tls import OnFiles
from smtpgate.tasks import TaskOwner
from tests.support.clock import MovableClock, move_loop

HANG_UP: Final = "<hang up>"
SILENCE: Final = "<silence>"
HOLD: Final = "<hold>"
ALICE: Final = Mailbox("alice", "example.net")
BOB: Final = Mailbox("bob", "example.net")
CAROL: Final = Mailbox("carol", "example.net")
TO_BOB: Final = Envelope.of(ReversePath(ALICE), [BOB])
TO_BOTH: Final = Envelope.of(ReversePath(ALICE), [BOB, CAROL])
_STANDING: Final = MovableClock()
_PATIENCE_S: Final = 5.0  # of the relay, with each answer
_SILENCE_S: Final = 6.0
_PAUSES_S: Final = (0.005, 0.05)

_ANSWERS: Final = {
    "CONNECT": "220 mx.example.net ESMTP",
    "MAIL": "250 2.1.0 sender ok",
    "RCPT": "250 2.1.5 recipient ok",
    "DATA": "354 go on",
    "BDAT": "250 2.0.0 chunk received",
    "MESSAGE": "250 2.0.0 queued",
    "RSET": "250 2.0.0 forgotten",
    "NOOP": "250 2.0.0 ok",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "QUIT": "221 2.0.0 bye",
}

Answer = str | Callable[[str], str]


async def fall_silent(silence_s: float, is_gone: Callable[[], bool]) -> None:
    """Say nothing more; so long passes once all is done that is due.

    A client that was at work meanwhile waits from then on, so as long passes once more while it
    is there.
    """
    for pause_s in _PAUSES_S:
        await asyncio.sleep(pause_s)
        if is_gone():
            break
        await move_loop(silence_s)
    await asyncio.Event().wait()


class _HungUpError(Exception):
    """One side has enough."""


@dataclass
class Visit:
    """One connection as the server saw it."""

    commands: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    chunks: bytearray = field(default_factory=bytearray)
    is_encrypted: bool = False
    peer: str = ""
    client_names: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def verbs(self) -> list[str]:
        """The commands, by first words."""
        return [command.split(" ")[0] for command in self.commands]


class UpstreamServer:
    """Listens on a free loopback port."""

    def __init__(self, offers: tuple[str, ...], tls: ssl.SSLContext | None) -> None:
        self.offers = offers
        self.answers: dict[str, Answer] = {}
        self.visits: list[Visit] = []
        self.port = 25
        self.silence_s = 0.0
        self._tls = tls
        self._changed = asyncio.Condition()
        self._released = asyncio.Event()
        self._handlers: set[asyncio.Task[Any]] = set()
        self._readers: dict[asyncio.StreamWriter, asyncio.StreamReader] = {}

    @property
    def messages(self) -> list[bytes]:
        """The messages accepted or refused at the final dot, over all connections."""
        return [message for visit in self.visits for message in visit.messages]

    @property
    def open_visits(self) -> int:
        """Connections now."""
        return sum(not visit.ended.is_set() for visit in self.visits)

    def config(self, **settings: object) -> UpstreamConfig:
        """The settings of a gate that sends here."""
        usual = {
            "name": "next",
            "host": "127.0.0.1",
            "port": self.port,
            "tls": "off",
            "helo": "gate.example.com",
            "connect_timeout_s": _PATIENCE_S,
            "command_timeout_s": _PATIENCE_S,
            "data_timeout_s": _PATIENCE_S,
            "deadline_s": 10,
        }
        return UpstreamConfig.model_validate(usual).model_copy(update=settings)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something to be seen here."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(is_so)

    def release(self) -> None:
        """Give the delayed answers."""
        self._released.set()

    def drop_all(self) -> None:
        """Close every connection."""
        for writer in self._readers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its greeting to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._readers[writer] = reader
        visit = Visit(is_encrypted=writer.get_extra_info("ssl_object") is not None)
        visit.peer = writer.get_extra_info("peername")[0]
        self.visits.append(visit)
        await self._tell()
        # In Python 3.11 a cancelled handler makes asyncio log an error of its own.
        with suppress(
            _HungUpError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            await self._answer(writer, "CONNECT", "")
            while True:
                await self._command(visit, reader, writer)
        writer.close()
        del self._readers[writer]
        visit.ended.set()
        await self._tell()

    async def _command(
        self, visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        command = (await reader.readuntil(b"\r\n"))[:-2].decode()
        visit.commands.append(command)
        await self._tell()
        verb = command.split(" ")[0]
        if verb == "BDAT":
            await self._chunk(visit, reader, writer, command)
            return
        answer = await self._answer(writer, verb, command)
        if verb == "DATA" and answer.startswith("354"):
            wire = b"\r\n" + await reader.readuntil(b"\r\n.\r\n")
            visit.messages.append(wire[:-3].replace(b"\r\n.", b"\r\n")[2:])
            await self._tell()
            await self._answer(writer, "MESSAGE", command)
        elif verb == "STARTTLS" and answer.startswith("220"):
            await self._shake_hands(visit, reader, writer)
        elif verb == "QUIT":
            raise _HungUpError

    async def _chunk(
        self,
        visit: Visit,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        command: str,
    ) -> None:
        """A chunk, whose octets are read in any case (RFC 3030 §2)."""
        octets = await reader.readexactly(int(command.split(" ")[1]))
        if not command.endswith(" LAST"):
            visit.chunks += octets
            await self._answer(writer, "BDAT", command)
            return
        visit.messages.append(bytes(visit.chunks) + octets)
        visit.chunks.clear()
        await self._tell()
        await self._answer(writer, "MESSAGE", command)

    async def _shake_hands(
        self, visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._tls is not None:
            await writer.start_tls(self._tls)
            visit.is_encrypted = True
            certificate = writer.get_extra_info("peercert") or {}
            visit.client_names += [name for _, name in certificate.get("subjectAltName", ())]
            return
        await reader.read(65536)
        await self._answer(writer, "HANDSHAKE", "")
        raise _HungUpError

    async def _answer(self, writer: asyncio.StreamWriter, verb: str, command: str) -> str:
        chosen = self.answers.get(verb, self._usual(verb))
        answer = chosen(command) if callable(chosen) else chosen
        if answer == HANG_UP:
            raise _HungUpError
        if answer == SILENCE:
            await fall_silent(self.silence_s, partial(self._is_gone, writer))
        if answer == HOLD:
            await self._released.wait()
            answer = self._usual(verb)
        writer.write(answer.encode() + b"\r\n")
        await writer.drain()
        return answer

    def _is_gone(self, writer: asyncio.StreamWriter) -> bool:
        return writer.is_closing() or self._readers[writer].at_eof()

    def _usual(self, verb: str) -> str:
        if verb == "EHLO":
            lines = ["mx.example.net", *self.offers]
            return "\r\n".join([*(f"250-{line}" for line in lines), "250 HELP"])
        return _ANSWERS.get(verb, "500 5.5.2 what?")

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        """End every connection, and wait until they are gone."""
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        self.drop_all()


@asynccontextmanager
async def open_upstream(
    *offers: str, tls: ssl.SSLContext | None = None, is_implicit: bool = False
) -> AsyncIterator[UpstreamServer]:
    """Serve on a free port; with ``tls`` by STARTTLS, or from the first octet."""
    upstream = UpstreamServer(offers, tls)
    server = await asyncio.start_server(
        upstream.serve, "127.0.0.1", 0, ssl=tls if is_implicit else None, limit=64 * 1024 * 1024
    )
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        await upstream.close()


@asynccontextmanager
async def relay_to(
    server: UpstreamServer,
    *,
    clock: Clock = _STANDING,
    on_limit: Callable[[str, int, str], None] | None = None,
    on_files: OnFiles | None = None,
    **settings: object,
) -> AsyncIterator[PooledUpstream]:
    """The relay under test, with that server as its upstream; no connection outlives it."""
    tasks = TaskOwner()
    config, server.silence_s = server.config(**settings), _SILENCE_S
    upstream = PooledUpstream(
        config, clock=clock, tasks=tasks, on_limit=on_limit, on_files=on_files
    )
    try:
        yield upstream
    finally:
        await upstream.close()
        await tasks.drain(1)
        assert upstream.open_connections == 0


class _HalfReader(asyncio.Protocol):
    """Accepts everything before the message, and does ``then`` when it comes."""

    def __init__(self, then: str) -> None:
        self.then = then
        self.silent: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"220 mx\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer."""
        if data.startswith(b"EHLO"):
            self.transport.write(b"250-mx\r\n250 PIPELINING\r\n")
        elif data.startswith(b"MAIL"):
            self.transport.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        elif self.then == "refuse":
            self.transport.write(b"552 5.3.4 too big\r\n")
            self.transport.pause_reading()
        elif self.then == "hang up":
            self.transport.abort()
        else:
            self.transport.pause_reading()
            self.silent = asyncio.ensure_future(
                fall_silent(_SILENCE_S, self.transport.is_closing)
            )

    def connection_lost(self, _: Exception | None) -> None:
        """End the silence."""
        if self.silent is not None:
            self.silent.cancel()


@asynccontextmanager
async def half_reader(
    *, then: str, data_timeout_s: float = _PATIENCE_S
) -> AsyncIterator[PooledUpstream]:
    """A relay to a server that takes the envelope, and of the message only a part.

    When that comes it may ``refuse``, ``hang up`` or ``stop reading``.
    """
    readers: list[_HalfReader] = []

    def reader() -> _HalfReader:
        readers.append(_HalfReader(then))
        return readers[-1]

    server = await asyncio.get_running_loop().create_server(reader, "127.0.0.1", 0)
    facts = UpstreamServer((), None)
    facts.port = server.sockets[0].getsockname()[1]
    async with relay_to(facts, data_timeout_s=data_timeout_s) as upstream:
        yield upstream
    server.close()
    assert len(readers) == 1
    for one in readers:
        one.transport.abort()
