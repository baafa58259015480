"""The listener for mail that comes back: SMTP without a login, for a few addresses only.

It is aiosmtpd's server within bounds: other mail servers bring a report now and then, and no
message of a client waits for it. It refuses at RCPT what the gate did not send, so it can
neither relay nor answer strangers.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol

from aiosmtpd.smtp import SMTP, Envelope, Session

from smtpgate.config.sections import FeedbackConfig
from smtpgate.core.reply import Reply

_RECIPIENTS: Final = 20
_UNKNOWN: Final = Reply(
    550, "5.1.1", "No such address here: only bounces of our mail are taken"
)
_TOO_MANY: Final = Reply(452, "4.5.3", "Too many recipients")
_BUSY: Final = b"421 4.3.2 Too many connections, try again later\r\n"


class TakesFeedback(Protocol):
    """Decides about addresses, and takes messages."""

    def takes(self, address: str) -> bool:
        """True if mail to that address is taken."""

    async def take(self, address: str, octets: bytes) -> Reply:
        """Take a message; the reply to its sender."""


class FeedbackListener:
    """Serves one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        settings: FeedbackConfig,
        intake: TakesFeedback,
        *,
        hostname: str,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._listening = listening
        self._settings = settings
        self._intake = intake
        self._hostname = hostname
        self._on_error = on_error
        self._server: asyncio.Server | None = None
        self._sessions: set[_Server] = set()
        self._by_client: dict[str, int] = {}

    @property
    def port(self) -> int:
        """The port it is bound to."""
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def sessions(self) -> int:
        """The number of open connections."""
        return len(self._sessions)

    async def start(self) -> None:
        """Take connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, sock=self._listening)

    async def stop(self) -> None:
        """Take no more connections, and end those that are open.

        The sender of a report that was cut off has it still.
        """
        if self._server is not None:
            self._server.close()
        for session in tuple(self._sessions):
            session.hang_up()

    def enter(self, session: "_Server", client: str) -> bool:
        """Count a connection; false if there are too many, of all clients or of this one."""
        number = self._by_client.get(client, 0)
        bounds = self._settings
        if (
            len(self._sessions) >= bounds.max_connections
            or number >= bounds.max_connections_per_client
        ):
            return False
        self._sessions.add(session)
        self._by_client[client] = number + 1
        return True

    def leave(self, session: "_Server", client: str) -> None:
        """Count it no more."""
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

    def _session(self) -> "_Server":
        return _Server(
            self, _Handler(self._intake, self._on_error), self._settings, self._hostname
        )


class _Handler:
    """Decides about recipients and messages; aiosmtpd calls it by these names."""

    def __init__(
        self, intake: TakesFeedback, on_error: Callable[[BaseException], None]
    ) -> None:
        self._intake = intake
        self._on_error = on_error

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        del server, session, options
        if not self._intake.takes(address):
            return str(_UNKNOWN)
        if len(envelope.rcpt_tos) >= _RECIPIENTS:
            return str(_TOO_MANY)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """The first reply that is no 250 is that of all: its sender has the whole message."""
        del server, session
        octets = envelope.original_content or b""
        for address in dict.fromkeys(envelope.rcpt_tos):
            reply = await self._intake.take(address, octets)
            if reply.code != 250:
                return str(reply)
        return "250 2.0.0 Ok"

    async def handle_exception(self, error: Exception) -> str:
        """A fault of ours: nothing of it is shown."""
        self._on_error(error)
        return "451 4.3.0 Temporary failure, try again later"


class _Server(SMTP):
    """One session; its time ends whatever the client does."""

    # What a server returns may have longer lines than it should; nothing is lost by reading it.
    line_length_limit = 65_536

    def __init__(
        self,
        owner: FeedbackListener,
        handler: _Handler,
        settings: FeedbackConfig,
        hostname: str,
    ) -> None:
        super().__init__(
            handler,
            hostname=hostname,
            ident="ESMTP",
            data_size_limit=settings.max_octets,
            timeout=settings.timeout_s,
            enable_SMTPUTF8=True,
            loop=asyncio.get_running_loop(),
        )
        self._owner = owner
        self._client = ""
        self._end: asyncio.TimerHandle | None = None
        self._session_s = settings.session_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the session, if there is room for it."""
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        if not self._owner.enter(self, self._client):
            assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - a socket
            transport.write(_BUSY)
            transport.close()
            return
        self._end = self.loop.call_later(self._session_s, self.hang_up)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The session is over."""
        if self._end is None:
            return
        self._end.cancel()
        self._owner.leave(self, self._client)
        super().connection_lost(error)

    def hang_up(self) -> None:
        """Close the connection at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()
