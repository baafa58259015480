"""The pool: connections to the upstream are few, kept, and handed out fairly.

A connection used last is used first, so that those not needed grow old and are closed. A slot
stands for one connection, open or being opened; there are ``max_connections``. Who finds none
free waits in line, and whoever gives one up hands it to the first in line: nobody overtakes.

A kept connection may have died unseen. When it turns out dead before it answered anything, the
transaction is tried once more on a fresh one; in no other case is anything sent twice.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from smtpgate.config import UpstreamConfig
from smtpgate.core.envelope import Envelope
from smtpgate.core.upstream import Delivery, Octets, UpstreamUnavailableError
from smtpgate.ports import Attempt, Clock
from smtpgate.relay.client import Client
from smtpgate.relay.connection import Connection, StaleConnectionError
from smtpgate.tasks import TaskOwner

__all__ = ["PooledUpstream"]

# What a waiter is handed: a connection in use before, or only the right to open one.
_Slot = Connection | None


class PooledUpstream:
    """The next hop, over kept connections; implements the Upstream port."""

    def __init__(self, config: UpstreamConfig, *, clock: Clock, tasks: TaskOwner) -> None:
        self._config = config
        self._clock = clock
        self._tasks = tasks
        self._client = Client(config)
        self._idle: list[Connection] = []
        self._waiters: deque[asyncio.Future[_Slot]] = deque()
        self._slots_taken = 0
        self._extensions: frozenset[str] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closing = False

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._config.name

    @property
    def extensions(self) -> frozenset[str] | None:
        """The EHLO keywords that it last offered; ``None`` before the first connection."""
        return self._extensions

    @property
    def open_connections(self) -> int:
        """Connections, idle and busy, with those that are being opened or closed."""
        return self._slots_taken

    @property
    def idle_connections(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Deliveries that wait for a connection."""
        return len(self._waiters)

    def connection_counts(self) -> Mapping[str, int]:
        """How many connections are in each state; may be asked from another thread."""
        idle = len(self._idle)
        return {"busy": max(self._slots_taken - idle, 0), "idle": idle}

    async def deliver(
        self, envelope: Envelope, message: Sequence[Octets], attempt: Attempt | None = None
    ) -> Delivery:
        """Carry out one mail transaction.

        Raises UpstreamUnavailableError, InDoubtError, LacksExtensionError. When the delivery
        is cut short otherwise, the attempt says what is certain.
        """
        attempt = attempt or Attempt()
        deadline = asyncio.get_running_loop().time() + self._config.deadline_s
        connection = await self._acquire(deadline)
        try:
            # It was ready when it was handed over; since then it may have closed.
            if connection is not None and connection.is_ready:
                try:
                    return await connection.deliver(envelope, message, deadline, attempt)
                except StaleConnectionError:
                    pass
            connection = None
            connection = await self._client.open(deadline, self._forget)
            self._extensions = connection.extensions
            if not connection.is_ready:
                raise self._unavailable("it hung up before the connection could be used")
            return await connection.deliver(envelope, message, deadline, attempt)
        finally:
            self._release(connection)

    async def close(self) -> None:
        """Take leave of the upstream; connections in use go when their transaction is over."""
        self._is_closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(self._unavailable("the gate is stopping"))
        farewells = [self._retire(self._idle.pop()) for _ in range(len(self._idle))]
        if farewells:
            await asyncio.wait(farewells)

    # -- slots ---------------------------------------------------------------------------------

    async def _acquire(self, deadline: float) -> _Slot:
        """A kept connection, or the right to open one; wait in line for either."""
        if self._is_closing:
            raise self._unavailable("the gate is stopping")
        too_old = self._clock.monotonic() - self._config.max_idle_s
        if self._idle and self._idle[-1].idle_since > too_old:
            return self._idle.pop()
        while self._idle:  # the newest is too old, so all are
            _ = self._retire(self._idle.pop())
        if self._slots_taken < self._config.max_connections:
            self._slots_taken += 1
            return None
        return await self._wait_in_line(deadline)

    async def _wait_in_line(self, deadline: float) -> _Slot:
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release(waiter.result())  # handed over in the same moment
            if isinstance(error, TimeoutError):
                problem = f"no connection was free within {self._config.deadline_s:g} s"
                raise self._unavailable(problem) from error
            raise

    def _release(self, slot: _Slot) -> None:
        """Give back what was acquired, or what became of it."""
        if slot is None:
            self._free_slot()
        elif not slot.is_ready:
            slot.abort()
            self._free_slot()
        elif self._is_closing or slot.messages >= self._config.max_messages:
            _ = self._retire(slot)
        elif not self._hand_over(slot):
            slot.idle_since = self._clock.monotonic()
            self._idle.append(slot)
            self._sweep_later(self._config.max_idle_s)

    def _free_slot(self) -> None:
        if not self._hand_over(None):
            self._slots_taken -= 1

    def _hand_over(self, slot: _Slot) -> bool:
        """Give it to the first in line, if there is one."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(slot)
                return True
        return False

    def _forget(self, connection: Connection) -> None:
        """A connection closed; an idle one gives its slot up here, one in use when released."""
        if connection in self._idle:
            self._idle.remove(connection)
            self._free_slot()

    # -- leaving -------------------------------------------------------------------------------

    def _retire(self, connection: Connection) -> asyncio.Task[None]:
        """Close a connection politely; its slot is taken until the server knows."""
        return self._tasks.start(self._quit(connection), name="upstream-quit")

    async def _quit(self, connection: Connection) -> None:
        try:
            await connection.quit()
        finally:
            self._free_slot()

    def _sweep_later(self, delay_s: float) -> None:
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        """Close the connections that nobody used for so long."""
        self._sweeper = None
        now, max_idle_s = self._clock.monotonic(), self._config.max_idle_s
        while self._idle and now - self._idle[0].idle_since >= max_idle_s:
            _ = self._retire(self._idle.pop(0))
        if self._idle:
            self._sweep_later(max_idle_s - (now - self._idle[0].idle_since))

    def _unavailable(self, problem: str) -> UpstreamUnavailableError:
        return UpstreamUnavailableError(f"upstream {self._config.name}: {problem}")
