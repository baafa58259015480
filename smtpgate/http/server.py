"""The HTTP listener: uvicorn in the gate's own event loop, as a guest that owns nothing.

By itself uvicorn takes the signals, configures logging, binds late and exits the process when
it cannot; here the gate does all that.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from smtpgate.http.pages import pages
from smtpgate.tasks import TaskOwner

_MAX_CONNECTIONS: Final = 100
_LIFE_S: Final = 30.0
_LINGER_S: Final = 2
_TICK_S: Final = 1.0


class _Connection(H11Protocol):
    """A connection with an end: open files are for mail.

    By itself uvicorn waits for a request for ever, and takes any number of connections.
    """

    made_at_s = 0.0
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the place of the oldest one when there are too many: a request takes no time."""
        others = [one for one in self.connections if isinstance(one, _Connection)]
        super().connection_made(transport)
        self.made_at_s = self.loop.time()
        self._end = self.loop.call_later(_LIFE_S, transport.abort)
        if len(others) >= _MAX_CONNECTIONS:
            min(others, key=lambda one: one.made_at_s).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


class _Guest(uvicorn.Server):
    """A uvicorn server that leaves the signals alone and can be waited for."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self.may_go = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: SIGTERM is the gate's, which drains before it stops this server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        self.is_up.set()

    async def main_loop(self) -> None:
        """Renew the Date field each second until told to stop (uvicorn's polls ten times)."""
        while not self.may_go.is_set():
            await self.on_tick(0)
            try:
                await asyncio.wait_for(self.may_go.wait(), _TICK_S)
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is being answered; with nobody connected there is nothing to wait for."""
        if self.server_state.connections:
            await super().shutdown(sockets)
            return
        for listening in (*self.servers, *(sockets or ())):
            listening.close()


class HttpServer:
    """Serves ``/metrics``, ``/healthz`` and ``/readyz`` on one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        metrics: Callable[[], bytes],
        is_ready: Callable[[], tuple[bool, Mapping[str, str]]],
    ) -> None:
        self.port: int = listening.getsockname()[1]
        self._app = pages(metrics=metrics, is_ready=is_ready)
        self._tasks = TaskOwner()
        self._listening = listening
        self._guest: _Guest | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take connections."""
        self._guest = _Guest(
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
            self._guest.serve(sockets=[self._listening]), name="http"
        )
        up = self._tasks.start(self._guest.is_up.wait())
        await asyncio.wait({self._serving, up}, return_when=asyncio.FIRST_COMPLETED)
        if not self._guest.is_up.is_set():
            up.cancel()
            await self._serving

    async def stop(self) -> None:
        """Stop listening and finish the answers under way; the second time does nothing."""
        if self._guest is not None and self._serving is not None:
            self._guest.may_go.set()
            await self._serving
            self._guest = None
        self._listening.close()
