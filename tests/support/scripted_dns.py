"""A name server that answers as a test tells it to, in real DNS over UDP and TCP.

``on_udp`` and ``on_tcp`` are functions of the query to the messages that are sent back. None
at all is silence; by TCP, HANG_UP ends the connection instead.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from smtpgate.core.proof.nameserver import Nameserver, parse_nameserver

HANG_UP: Final = b"<hang up>"
LOOPBACK: Final = "127.0.0.1"
_TRIES: Final = 20
_MAX_MESSAGE_OCTETS: Final = 65535

Query = dns.message.Message
Script = Callable[[Query], Sequence[bytes]]


def silence(query: Query) -> Sequence[bytes]:
    """No answer."""
    return ()


def texts(name: str, *values: bytes) -> dns.rrset.RRset:
    """A TXT record set; each value is cut into strings of at most 255 octets."""
    lines = []
    for value in values:
        pieces = (value[at : at + 255] for at in range(0, len(value) or 1, 255))
        lines.append(" ".join(f'"{_escaped(piece)}"' for piece in pieces))
    return dns.rrset.from_text_list(_absolute(name), 60, "IN", "TXT", lines)


def _escaped(octets: bytes) -> str:
    return "".join(f"\\{octet:03}" for octet in octets)


def alias(name: str, target: str) -> dns.rrset.RRset:
    """A CNAME record."""
    return dns.rrset.from_text(_absolute(name), 60, "IN", "CNAME", f"{target}.")


def soa(name: str) -> dns.rrset.RRset:
    """The record that says for how long something is known not to exist (RFC 2308 §3)."""
    data = f"ns.{name}. hostmaster.{name}. 1 7200 900 86400 60"
    return dns.rrset.from_text(_absolute(name), 60, "IN", "SOA", data)


def referral(name: str) -> dns.rrset.RRset:
    """A name server record, as in a referral to it."""
    return dns.rrset.from_text(_absolute(name), 60, "IN", "NS", "ns.example.net.")


def _absolute(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


def answer_of(
    query: Query,
    *answer: dns.rrset.RRset,
    authority: Sequence[dns.rrset.RRset] = (),
    code: dns.rcode.Rcode = dns.rcode.NOERROR,
    flags: int = 0,
    message_id: int | None = None,
) -> bytes:
    """The response to a query, of a server that resolves names; as long as it has to be."""
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(code)
    response.flags |= flags
    response.id = query.id if message_id is None else message_id
    response.answer.extend(answer)
    response.authority.extend(authority)
    return response.to_wire(max_size=_MAX_MESSAGE_OCTETS)


def truncated(query: Query) -> bytes:
    """The response that says: it is too long, ask by TCP (RFC 1035 §4.2.1)."""
    return answer_of(query, flags=dns.flags.TC)


@dataclass(frozen=True)
class Asked:
    """One query as it came, and the peer to answer."""

    query: Query
    transport: str
    peer: Any

    @property
    def name(self) -> str:
        """The name that it asks for."""
        return self.query.question[0].name.to_text(omit_final_dot=True)


class ScriptedDns(asyncio.DatagramProtocol):
    """Listens on one loopback port for both transports, and notes what it was asked."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.asked: list[Asked] = []
        self.on_udp: Script = silence
        self.on_tcp: Script = silence
        self.port = 0
        self._changed = asyncio.Condition()
        self._udp: asyncio.DatagramTransport
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def nameserver(self) -> Nameserver:
        """Its address, for a resolver."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return parse_nameserver(f"{host}:{self.port}")

    def knows(
        self, zone: Mapping[str, Sequence[bytes]], hosts: Mapping[str, str] | None = None
    ) -> None:
        """Answer with the TXT records of those names, and that there are no others.

        ``hosts`` are those of MX records, by their names.
        """

        def answered(query: Query) -> bytes:
            asked = query.question[0].name.to_text(omit_final_dot=True).lower()
            if hosts and query.question[0].rdtype == dns.rdatatype.MX:
                line = f"10 {hosts[asked]}."
                record = dns.rrset.from_text(_absolute(asked), 60, "IN", "MX", line)
                return answer_of(query, record)
            if asked not in zone:
                gone = dns.rcode.NXDOMAIN
                return answer_of(query, code=gone, authority=[soa("example.com")])
            return answer_of(query, texts(asked, *zone[asked]))

        self.on_udp = lambda query: [answered(query)]

    def send(self, octets: bytes, peer: Any) -> None:  # noqa: ANN401 - as sockets have it
        """Send a datagram to the peer."""
        self._udp.sendto(octets, peer)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something to be seen here."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(is_so)

    # -- what the event loop calls -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._udp = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ANN401 - the same
        """Answer a datagram."""
        query = dns.message.from_wire(data)
        self._note(Asked(query, "udp", addr))
        for octets in self.on_udp(query):
            self._udp.sendto(octets, addr)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on one TCP connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            length = int.from_bytes(await reader.readexactly(2), "big")
            query = dns.message.from_wire(await reader.readexactly(length))
            self._note(Asked(query, "tcp", writer.get_extra_info("peername")))
            for octets in self.on_tcp(query):
                if octets == HANG_UP:
                    writer.close()
                    return
                writer.write(len(octets).to_bytes(2, "big") + octets)
            await reader.read()
        writer.close()

    def _note(self, asked: Asked) -> None:
        self.asked.append(asked)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        """End whatever is open."""
        self._udp.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def open_dns(*, tcp: bool = True, host: str = LOOPBACK) -> AsyncIterator[ScriptedDns]:
    """Serve on a free port; without ``tcp``, connections to it are refused."""
    server = ScriptedDns(host)
    listener = await _bound(server, host)
    streams = await asyncio.start_server(server.serve, sock=listener) if tcp else None
    if streams is None:
        listener.close()
    try:
        yield server
    finally:
        if streams is not None:
            streams.close()
        await server.close()


async def _bound(server: ScriptedDns, host: str) -> socket.socket:
    """Begin with UDP, and return the TCP socket of the same port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_TRIES):  # a port that is free for the one may be taken for the other
        listener = socket.create_server((host, 0), family=family)
        server.port = listener.getsockname()[1]
        with suppress(OSError):
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: server, local_addr=(host, server.port)
            )
            return listener
        listener.close()
    raise OSError("no port is free for both transports")
