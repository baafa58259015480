"""The listener for mail that comes back: SMTP without a login, for a few addresses only.

Other mail servers bring a report now and then, and no message of a client waits for it. It
refuses at RCPT what the gate did not send, so it can neither relay nor answer strangers.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from smtpgate.config.sections import FeedbackConfig
from smtpgate.feedback.session import FeedbackSession, Handler, TakesFeedback


class FeedbackListener:
    """Serves one listening socket; with ``tls`` clients may encrypt their session."""

    def __init__(
        self,
        listening: socket.socket,
        settings: FeedbackConfig,
        intake: TakesFeedback,
        *,
        hostname: str,
        tls: ssl.SSLContext | None,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._listening = listening
        self._settings = settings
        self._intake = intake
        self._hostname = hostname
        self._tls = tls
        self._on_error = on_error
        self._server: asyncio.Server | None = None
        self._sessions: set[FeedbackSession] = set()
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

    def enter(self, session: FeedbackSession, client: str) -> bool:
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

    def leave(self, session: FeedbackSession, client: str) -> None:
        """Count it no more."""
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

    def _session(self) -> FeedbackSession:
        handler = Handler(self._intake, self._on_error)
        return FeedbackSession(self, handler, self._settings, self._hostname, self._tls)
