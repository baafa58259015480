"""uvicorn in the gate's own event loop.

By itself uvicorn handles signals, configures logging, binds late and exits the process on an
error; here the gate does all of that.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from smtpgate.http.feedback import FeedbackPage
from smtpgate.http.pages import pages
from smtpgate.http.subscriptions import SnsPages
from smtpgate.tasks import TaskOwner

_MAX_CONNECTIONS: Final = 100
_LIFE_S: Final = 30.0
_LINGER_S: Final = 2
_TICK_S: Final = 1.0


class _Connection(H11Protocol):
    """A connection of bounded number and lifetime: open files are for mail.

    By itself uvicorn waits for a request for ever, and takes any number of connections.
    """

    made_at_s = 0.0
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Abort the oldest connection when there are too many: a request takes no time."""
        others = [one for one in self.connections if isinstance(one, _Connection)]
        super().connection_made(transport)
        self.made_at_s = self.loop.time()
        self._end = self.loop.call_later(_LIFE_S, transport.abort)
        if len(others) >= _MAX_CONNECTIONS:
            min(others, key=lambda one: one.made_at_s).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer of its lifetime."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals alone, and whose start can be awaited."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self.may_stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: the gate handles SIGTERM, and drains before it stops this server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        self.is_up.set()

    async def main_loop(self) -> None:
        """Renew the Date field once a second until the stop (uvicorn does it ten times)."""
        while not self.may_stop.is_set():
            await self.on_tick(0)
            try:
                await asyncio.wait_for(self.may_stop.wait(), _TICK_S)
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the answers under way; without connections, do not wait."""
        if self.server_state.connections:
            await super().shutdown(sockets)
            return
        for listening in (*self.servers, *(sockets or ())):
            listening.close()


class HttpServer:
    """Serves metrics, health checks and the links of subscriptions on one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        metrics: Callable[[], bytes],
        is_ready: Callable[[], tuple[bool, Mapping[str, str]]],
        refresh: Callable[[], Awaitable[None]] | None = None,
        sns: SnsPages | None = None,
        feedback: FeedbackPage | None = None,
    ) -> None:
        self.port: int = listening.getsockname()[1]
        self._app = pages(
            metrics=metrics, is_ready=is_ready, refresh=refresh, sns=sns, feedback=feedback
        )
        self._tasks = TaskOwner()
        self._listening = listening
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take connections."""
        self._server = _Server(
            uvicorn.Config(
                self._app,
                http=_Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                loop="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_LINGER_S,
            )
        )
        self._serving = self._tasks.start(
            self._server.serve(sockets=[self._listening]), name="http"
        )
        up = self._tasks.start(self._server.is_up.wait())
        await asyncio.wait({self._serving, up}, return_when=asyncio.FIRST_COMPLETED)
        if not self._server.is_up.is_set():
            up.cancel()
            await self._serving

    async def stop(self) -> None:
        """Stop listening and finish the answers under way; the second time does nothing."""
        if self._server is not None and self._serving is not None:
            self._server.may_stop.set()
            await self._serving
            self._server = None
        self._listening.close()
