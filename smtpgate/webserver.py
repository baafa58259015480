"""uvicorn in the gate's own event loop, on a socket that is there already.

By itself uvicorn handles signals, configures logging, binds late and exits the process on an
error; here the gate does all of that.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from smtpgate.tasks import TaskOwner

_LINGER_S: Final = 2
_TICK_S: Final = 1.0


class _Connection(H11Protocol):
    """A connection of bounded number and lifetime: open files are for mail.

    By itself uvicorn waits for a request for ever, and takes any number of connections.
    """

    most = 100
    idle_s = 30.0
    answer_s = 30.0
    _used_at_s = 0.0  # the connection, or the last answer's end
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Abort the connection that is longest without a request when there are too many."""
        others = [one for one in self.connections if isinstance(one, _Connection)]
        super().connection_made(transport)
        self._used_at_s = self.loop.time()
        self._end = self.loop.call_at(self._used_at_s + self.idle_s, self._end_if_over)
        if len(others) >= self.most:
            idle = [one for one in others if not one.is_answering]
            oldest = min(idle, key=lambda one: one._used_at_s, default=self)
            oldest.transport.abort()

    @property
    def is_answering(self) -> bool:
        """True while a whole request head has come, and its answer is not complete."""
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def on_response_complete(self) -> None:
        """The time without a request begins."""
        super().on_response_complete()
        self._used_at_s = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer of its lifetime."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def _end_if_over(self) -> None:
        """End the connection, or look again when its time will be over.

        Requests do not move the timer: that would cost each of them more than this does.
        """
        last_at_s = self._used_at_s + self.idle_s + (self.answer_s if self.is_answering else 0)
        now_s = self.loop.time()
        if now_s < last_at_s:
            # An answer may end before that, and the time without a request begin then.
            again_at_s = min(last_at_s, now_s + self.idle_s)
            self._end = self.loop.call_at(again_at_s, self._end_if_over)
        else:
            self.transport.abort()


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


class WebServer:
    """Serves an ASGI application on one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        application: Any,  # noqa: ANN401 - ASGI has no type that all agree on
        *,
        max_connections: int,
        idle_s: float,
        answer_s: float,
        linger_s: int = _LINGER_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """A connection may be ``idle_s`` without a request; its head must come in that time.

        After it there are at least ``answer_s`` for body and answer. ``linger_s`` is the
        time that answers under way have after :meth:`stop`.
        """
        self.port: int = listening.getsockname()[1]
        self._application = application
        bounds = {"most": max_connections, "idle_s": idle_s, "answer_s": answer_s}
        self._connections: type[_Connection] = type("BoundedConnection", (_Connection,), bounds)
        self._linger_s = linger_s
        self._tls = tls
        self._tasks = TaskOwner()
        self._listening = listening
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def use_answer_time(self, answer_s: float) -> None:
        """Give answers so much time from now on."""
        self._connections.answer_s = answer_s

    async def start(self) -> None:
        """Take connections."""
        config = uvicorn.Config(
            self._application,
            http=self._connections,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=self._linger_s,
        )
        config.load()
        config.ssl = self._tls
        self._server = _Server(config)
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
