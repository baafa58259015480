"""Clients behind a proxy: who they are, by the PROXY protocol of HAProxy (version 1 and 2).

The header comes before everything else, also before TLS. It is read from the socket itself and
octet for octet, so that what follows it is still there for the TLS handshake.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiosmtpd.proxy_protocol import ProxyData, get_proxy

from smtpgate.tasks import TaskOwner

__all__ = ["Admit", "ProxiedServer", "ProxyError", "read_header"]

Network = IPv4Network | IPv6Network
# Makes a session of a socket, for the client whose address that is.
Admit = Callable[[socket.socket, str], Awaitable[None]]

_HEADER_S: Final = 5
_MAX_OCTETS: Final = 4096
_MAX_ERRORS_IN_A_ROW: Final = 100


class ProxyError(Exception):
    """A header that cannot be understood; the connection is closed without a word."""


class _SocketReader:
    """A socket as aiosmtpd's parser reads it, never further than asked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._left = _MAX_OCTETS

    async def read(self, n: int = -1) -> bytes:
        """Some octets, at most so many."""
        if not 0 < n <= self._left:
            raise ProxyError("the header is too long")
        octets = await self._loop.sock_recv(self._connection, n)
        if not octets:
            raise ProxyError("the connection ended within the header")
        self._left -= len(octets)
        return octets

    async def readexactly(self, n: int) -> bytes:
        """So many octets."""
        octets = b""
        while len(octets) < n:
            octets += await self.read(n - len(octets))
        return octets

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Octets up to the separator."""
        octets = b""
        while not octets.endswith(separator):
            octets += await self.read(1)
        return octets


async def read_header(connection: socket.socket) -> str | None:
    """The client's address by the header; ``None`` where the proxy speaks for itself.

    A proxy that checks whether we live says ``LOCAL`` or ``UNKNOWN``. Raises ProxyError.
    """
    header: ProxyData = await get_proxy(_SocketReader(connection))
    if not header.valid:
        raise ProxyError(header.error or "no PROXY header")
    source = header.src_addr
    return str(source) if isinstance(source, IPv4Address | IPv6Address) else None


class ProxiedServer:
    """Accepts connections on one socket; those from trusted networks begin with a header."""

    def __init__(
        self, listening: socket.socket, trusted: Sequence[Network], admit: Admit
    ) -> None:
        self._listening = listening
        self._trusted = tuple(trusted)
        self._admit = admit
        self._tasks = TaskOwner()
        _ = self._tasks.start(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        errors = 0
        while errors < _MAX_ERRORS_IN_A_ROW:
            try:
                connection, peer = await loop.sock_accept(self._listening)
            except OSError:  # such as a client that is gone already, or no descriptors left
                errors += 1
                await asyncio.sleep(0.1)
                continue
            errors = 0
            address = str(peer[0]).partition("%")[0]
            _ = self._tasks.start(self._open(connection, address))

    async def _open(self, connection: socket.socket, address: str) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._is_trusted(address):
                async with asyncio.timeout(_HEADER_S):
                    address = await read_header(connection) or address
            await self._admit(connection, address)
        except (ProxyError, OSError):  # a time-out is one
            connection.close()
        except BaseException:
            connection.close()
            raise

    def _is_trusted(self, address: str) -> bool:
        known = ip_address(address)
        mapped = getattr(known, "ipv4_mapped", None)
        known = mapped or known
        return any(known in network for network in self._trusted)

    def close(self) -> None:
        """Accept no more, and drop whoever is still saying its header."""
        self._tasks.cancel()
        self._listening.close()
