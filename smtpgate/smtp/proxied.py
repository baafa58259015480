"""Clients behind a proxy: their addresses, by the PROXY protocol of HAProxy (1 and 2).

The header comes before everything else, also before TLS. It is read from the socket itself and
octet for octet, so that what follows it is still there for the TLS handshake.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from aiosmtpd.proxy_protocol import ProxyData, get_proxy

_MAX_OCTETS: Final = 4096


class ProxyError(Exception):
    """A header that cannot be understood; the connection is closed without a word."""


class _SocketReader:
    """A socket as aiosmtpd's parser reads it, never further than the parser wants."""

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


async def read_header(connection: socket.socket) -> tuple[str, int] | None:
    """The client's address and port by the header; ``None`` where the proxy names none.

    Health checks of a proxy have ``LOCAL`` or ``UNKNOWN``. Raises ProxyError.
    """
    header: ProxyData = await get_proxy(_SocketReader(connection))
    if not header.valid:
        raise ProxyError(header.error or "no PROXY header")
    source = header.src_addr
    if not isinstance(source, IPv4Address | IPv6Address):
        return None
    return str(source), header.src_port or 0
