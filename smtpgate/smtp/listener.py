"""Listeners: sockets, TLS contexts, connection limits, and an orderly stop."""

import asyncio
import socket
from collections import Counter
from typing import Any, Final

from smtpgate.smtp.proxied import ProxiedServer
from smtpgate.smtp.session import Door, GateSession

__all__ = ["Listener"]

_BACKLOG: Final = 512
_TLS_HANDSHAKE_S: Final = 30


class Listener:
    """One bound socket with its sessions."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | ProxiedServer | None = None
        self._port = door.config.port
        self._sessions: set[GateSession] = set()
        self._clients: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """The port it is bound to (the system's choice where the configuration says 0)."""
        return self._port

    def open(self) -> None:
        """Bind and listen; who connects waits until the start.

        Raises OSError naming the listener and its address.
        """
        self._socket = self._bound()

    def _bound(self) -> socket.socket:
        config = self.door.config
        try:
            listening = socket.create_server(
                (config.address, config.port),
                family=socket.AF_INET6 if ":" in config.address else socket.AF_INET,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise OSError(f"listener.{config.name}: {error.strerror or error}") from None
        listening.setblocking(False)
        self._port = listening.getsockname()[1]
        return listening

    async def start(self) -> None:
        """Take connections. Raises OSError as ``open`` does, unless that was done before."""
        listening, self._socket = self._socket or self._bound(), None
        if self.door.config.proxy_from:
            self._server = ProxiedServer(listening, self.door.config.proxy_from, self._open)
        else:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: GateSession(self.door, self), sock=listening, **self._tls()
            )

    def _tls(self) -> dict[str, Any]:
        if self.door.config.tls != "implicit":
            return {}
        return {
            "ssl": self.door.tls and self.door.tls.context,
            "ssl_handshake_timeout": _TLS_HANDSHAKE_S,
        }

    async def _open(self, connection: socket.socket, address: str) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: GateSession(self.door, self, client_address=address),
            connection,
            **self._tls(),
        )

    def admit(self, session: GateSession, address: str) -> str | None:
        """Count the session, or name the limit that it would pass."""
        if len(self._sessions) >= self.door.config.max_connections:
            return "max-connections"
        if self._clients[address] >= self.door.config.max_connections_per_client:
            return "max-connections-per-client"
        self._sessions.add(session)
        self._clients[address] += 1
        return None

    def forget(self, session: GateSession, address: str) -> None:
        """The session has ended."""
        self._sessions.discard(session)
        self._clients[address] -= 1
        if not self._clients[address]:
            del self._clients[address]

    def close(self) -> None:
        """Take no more connections; tell idle sessions, let transactions finish."""
        if self._socket is not None:
            self._socket.close()
        if self._server is not None:
            self._server.close()
        for session in tuple(self._sessions):
            session.begin_drain()

    def abort(self) -> None:
        """Close what is left."""
        for session in tuple(self._sessions):
            session.abort()
