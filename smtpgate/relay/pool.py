"""The pool: connections to the upstream are few, kept, and handed out by turns.

The connection that was used last is used first, so that those not needed grow old and are
closed. A slot stands for one connection, open or being opened; there are ``max_connections``,
or fewer while the server refuses more. A message that finds none free waits in line; the
accounts take turns, each with its share (``Turns``), so that no account takes all.

Whether a connection can be used is checked when it is used: one that was ready when a waiter
got it may be closed when the waiter runs. A kept connection may also have died unseen. When it
turns out dead before it answered anything, the transaction is tried once more on a fresh one;
in no other case is anything sent twice.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Final

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.routing.notes import RecipientLimitSeen, RelayNote
from smtpgate.core.upstream import (
    Answered,
    Cause,
    Delivery,
    NotSent,
    NotSentError,
    Terms,
    UpstreamUnavailableError,
    recipient_limit,
)
from smtpgate.core.upstream.limits import NO_LIMITS
from smtpgate.ports import AccessTokens, Clock, DeliveryAttempt, Reading, TokenState
from smtpgate.relay.client_tls import OnFiles
from smtpgate.relay.connection import Connection, StaleConnectionError, cause_of
from smtpgate.relay.connector import Connector
from smtpgate.relay.limit import ConnectionLimit
from smtpgate.relay.mean_time import MeanTime
from smtpgate.relay.turns import Turns
from smtpgate.tasks import LoopTurns, Offload, TaskOwner, Threads

# Threads that read messages from files.
_READERS: Final = 2
_FACTS_KEPT_S: Final = 300.0
_RECIPIENT_LIMIT_KEPT_S: Final = 3600.0
# What a waiter gets: a connection in use before, or only the right to open one.
_Slot = Connection | None
_Waiter = asyncio.Future[_Slot]
OnLimit = Callable[[str, int, str], None]
Tell = Callable[[RelayNote], None]
OnFailure = Callable[[NotSentError | OSError, str | None], None]


class PooledUpstream:
    """One upstream, over kept connections.

    ``on_limit`` is called when the server allows fewer connections than before, with its name,
    their number and the server's refusal. ``on_failure`` is called before another message gets
    the slot of one that failed: with the error, and with the account of the message unless the
    connection itself could not be opened.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        clock: Clock,
        tasks: TaskOwner,
        tokens: AccessTokens | None = None,
        on_limit: OnLimit | None = None,
        on_files: OnFiles | None = None,
        tell_peers: Tell | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._tasks = tasks
        self._on_limit = on_limit
        self._tell_peers = tell_peers
        self.on_failure: OnFailure | None = None
        offload = Offload(LoopTurns(clock.monotonic), Threads("upstream", _READERS))
        self._tokens = tokens
        self._connector = Connector(config, offload, tasks, tokens, on_files)
        self._idle: list[Connection] = []
        self._working: set[Connection] = set()
        self._turns: Turns[_Waiter] = Turns(config.account_share)
        self._limit = ConnectionLimit(config.max_connections)
        self._slots_taken = 0
        self._opening = 0
        self._opened: asyncio.Future[None] | None = None
        self._extensions: frozenset[str] | None = None
        self._limits = NO_LIMITS
        self._max_octets: int | None = None
        self._facts_at = 0.0
        self._recipient_limit: int | None = None
        self._recipient_limit_at = 0.0
        self._service = MeanTime()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closing = False

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, kept: each look for it asks the system for the process (Python 3.11).

        An upstream is also made to check a configuration, before there is a loop.
        """
        return asyncio.get_running_loop()

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._config.name

    @property
    def terms(self) -> Terms:
        """The terms of its last connection."""
        return self._connector.last_terms

    @property
    def deadline_s(self) -> float:
        """The time that a delivery may take."""
        return self._config.deadline_s

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
        return self._turns.waiting

    @property
    def connection_limit(self) -> int:
        """The number of connections allowed now: as configured, or as the server allows."""
        return self._limit.at(self._clock.monotonic())

    @property
    def max_octets(self) -> int | None:
        """The largest message that it takes, as it lately said; ``None`` when unknown.

        It is forgotten after a while: else nothing would ever be sent that could show that the
        server's limit was raised.
        """
        known = self._max_octets
        if known is None or self._clock.monotonic() - self._facts_at > _FACTS_KEPT_S:
            return None
        return known

    @property
    def max_recipients(self) -> int | None:
        """The most recipients of a message, as it announced or its answers showed.

        ``None`` when unknown. What its answers showed is forgotten after a while, because the
        server's limit may have been raised.
        """
        announced, shown = self._limits.recipients, self._recipient_limit
        if (
            shown is None
            or self._clock.monotonic() - self._recipient_limit_at > _RECIPIENT_LIMIT_KEPT_S
        ):
            return announced
        return shown if announced is None else min(announced, shown)

    @property
    def max_recipient_domains(self) -> int | None:
        """The most domains of a message's recipients, as it announced; ``None`` without."""
        return self._limits.domains

    @property
    def token_state(self) -> TokenState | None:
        """The state of its access token; ``None`` if it logs in without one."""
        return None if self._tokens is None else self._tokens.state()

    def readings(self) -> Iterator[Reading]:
        """The state of the connections and of the line, for a scrape."""
        name, idle = self.name, self.idle_connections
        busy = max(self.open_connections - idle, 0)
        yield Reading("smtpgate_upstream_connections", busy, (name, "busy"))
        yield Reading("smtpgate_upstream_connections", idle, (name, "idle"))
        yield Reading("smtpgate_upstream_waiting", self.waiting, (name,))
        yield Reading("smtpgate_upstream_connection_limit", self.connection_limit, (name,))
        yield from self._connector.readings()

    @property
    def answered_at(self) -> float:
        """The moment when the server last answered, by the clock that only goes forward."""
        return self._facts_at

    def turn_away(self, problem: str, cause: Cause) -> None:
        """End the wait of the messages in line: the server is of no use to them."""
        for waiter in self._turns.clear():
            _end(waiter, UpstreamUnavailableError(problem, cause))

    async def probe(self, deadline: float) -> bool:
        """See whether a message could be sent, by a kept connection or a fresh one.

        False if nothing can be seen because all connections are in use. Raises
        UpstreamUnavailableError, and an OSError where a TLS handshake fails.
        """
        if not self._has_room():
            return False
        self._turns.take("")
        slot = self._take_room()
        try:
            if slot is not None:
                try:
                    if slot.is_ready():
                        await slot.check(deadline)
                        return True
                except UpstreamUnavailableError:
                    pass  # it may have been kept for too long
                slot.abort()
                slot = None
            slot = await self._open(deadline)
            if slot is not None:
                await slot.check(deadline)
        finally:
            self._release("", slot)
        return True

    def has_room_for(self, account_id: str) -> bool:
        """True if a message of that account need not wait for a connection."""
        turns = self._turns
        return not turns.waiting and turns.has_share(account_id) and self._has_room()

    async def deliver(
        self,
        envelope: Envelope,
        message: Sequence[Body],
        attempt: DeliveryAttempt,
        deadline: float | None = None,
    ) -> Delivery:
        """Carry out one mail transaction; every end that it can come to is a Delivery.

        It has until the ``deadline``, in the event loop's time, and at most ``deadline_s``.
        """
        time, account = self._loop.time, attempt.account_id
        own = time() + self._config.deadline_s
        deadline = own if deadline is None or deadline > own else deadline
        was_in_line = False
        try:
            while True:  # over a kept connection, or a fresh one when that is dead
                slot = (
                    self._take_room()
                    if self._take_share(account)
                    else await self._queue(attempt, deadline, was_in_line=was_in_line)
                )
                since, is_connected = time(), True
                try:
                    if slot is not None:
                        try:
                            return await slot.deliver(envelope, message, deadline, attempt)
                        except StaleConnectionError:
                            slot.abort()
                    slot, is_connected = None, False
                    slot = await self._open(deadline)
                    if slot is not None:
                        is_connected = True
                        return await slot.deliver(envelope, message, deadline, attempt)
                except (NotSentError, OSError) as error:
                    if self.on_failure is not None:  # before another message gets the slot
                        self.on_failure(error, account if is_connected else None)
                    raise
                finally:
                    attempt.served_s = served_s = time() - since
                    self._service.note(served_s)
                    self._release(account, slot)
                was_in_line = True
        except NotSentError as error:
            return error.delivery
        except OSError as error:
            return NotSent("upstream-unreachable", str(error), cause_of(error))

    async def close(self) -> None:
        """Close idle connections; connections in use close when their transaction is over."""
        self._is_closing = True
        self._connector.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiter in self._turns.clear():
            _end(waiter, self._unavailable("the gate is stopping"))
        closing = [self._retire(self._idle.pop()) for _ in range(len(self._idle))]
        if closing:
            await asyncio.wait(closing)

    def learn_from(self, delivery: Answered) -> None:
        """Note how many recipients the server takes at once, when a refusal shows it."""
        limit = recipient_limit(delivery)
        if limit is not None:
            self.note_recipient_limit(limit)
            if self._tell_peers is not None:
                self._tell_peers(RecipientLimitSeen(self.name, limit))

    def note_recipient_limit(self, limit: int) -> None:
        """The server takes so many recipients at once, as its answers have shown."""
        self._recipient_limit = limit
        self._recipient_limit_at = self._clock.monotonic()

    # -- opening -------------------------------------------------------------------------------

    async def _open(self, deadline: float) -> _Slot:
        """A fresh connection, or ``None`` when the server allows no more than there are.

        Raises UpstreamUnavailableError when there are none.
        """
        self._opening += 1
        try:
            connection = await self._connector.open(deadline, self._forget)
        except UpstreamUnavailableError as error:
            self._end_opening()
            if not await self._others_work(deadline):
                raise
            self._note_refused(str(error))
            return None
        except BaseException:
            self._end_opening()
            raise
        self._working.add(connection)
        self._extensions, self._max_octets = connection.extensions, connection.max_octets
        self._limits = connection.limits
        self._facts_at = self._clock.monotonic()
        self._limit.accepted(len(self._working))
        self._end_opening()
        self._serve()
        return connection

    def _end_opening(self) -> None:
        self._opening -= 1
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)
        self._opened = None

    async def _others_work(self, deadline: float) -> bool:
        """True if a message can wait for another connection, once that is known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while not self._working and self._opening:
                    self._opened = self._opened or self._loop.create_future()
                    await asyncio.shield(self._opened)
        if not self._working:
            self._limit.forget()
        return bool(self._working) and self._loop.time() < deadline

    def _note_refused(self, problem: str) -> None:
        working = len(self._working)
        if self._limit.refused(working, self._clock.monotonic()) and self._on_limit is not None:
            self._on_limit(self.name, working, problem)

    # -- slots ---------------------------------------------------------------------------------

    def _take_share(self, account: str) -> bool:
        """Take a connection of the account's share; false if the message has to wait for it."""
        turns = self._turns
        return (
            not (turns.waiting or self._is_closing)
            and self._has_room()
            and turns.take_share(account)
        )

    async def _queue(
        self, attempt: DeliveryAttempt, deadline: float, *, was_in_line: bool
    ) -> _Slot:
        """Wait in line for a kept connection, or the right to open one.

        A message that was in line before goes to the head of it.
        """
        if self._is_closing:
            raise self._unavailable("the gate is stopping")
        account, turns = attempt.account_id, self._turns
        if not was_in_line:
            most = self._config.max_waiting_per_account
            if turns.waiting_of(account) >= most:
                problem = f"{most} messages of the account wait already"
                raise NotSentError("upstream-busy", problem, "busy")
            self._must_be_worth_waiting(account, deadline)
        slot = await self._wait_in_line(attempt, deadline, is_first=was_in_line)
        if attempt.is_abandoned:
            self._release(account, slot)
            raise NotSentError("client-gone")
        return slot

    def _must_be_worth_waiting(self, account: str, deadline: float) -> None:
        """Refuse at once a message whose turn will come too late. Raises NotSentError."""
        left_s = deadline - self._loop.time()
        connections = max(self.connection_limit, 1)
        if (
            self._service.after(self._turns.waiting, connections)
            <= left_s
            >= self._service.after(self._turns.waiting_of(account), self._turns.share)
        ):
            return
        wait_s = max(
            self._service.after(self._turns.before(account), connections),
            self._service.after(self._turns.waiting_of(account), self._turns.share),
        )
        if wait_s > left_s:
            problem = f"a message would wait about {wait_s:.0f} s for a connection"
            raise NotSentError("upstream-busy", problem, "busy")

    async def _wait_in_line(
        self, attempt: DeliveryAttempt, deadline: float, *, is_first: bool
    ) -> _Slot:
        account = attempt.account_id
        waiter: _Waiter = self._loop.create_future()
        self._turns.join(account, waiter, is_first=is_first)
        self._serve()  # the messages before it may all have their share, or the limit rose
        leave = partial(_leave, waiter)
        if attempt.client_gone is not None:
            attempt.client_gone.add_done_callback(leave)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            was_there = self._turns.leave(account, waiter)
            if not was_there and not waiter.cancelled() and waiter.exception() is None:
                self._release(account, waiter.result())  # handed over in the same moment
            if isinstance(error, TimeoutError):
                problem = f"no connection was free within {self._config.deadline_s:g} s"
                raise self._unavailable(problem, "busy") from error
            raise
        finally:
            if attempt.client_gone is not None:
                attempt.client_gone.remove_done_callback(leave)

    def _has_room(self) -> bool:
        """True if a connection is free, or may be opened; idle ones that are old are closed."""
        now = self._clock.monotonic()
        if self._idle and self._idle[-1].idle_since <= now - self._config.max_idle_s:
            while self._idle:  # the newest is too old, so all are
                _ = self._retire(self._idle.pop())
        if self._idle:
            return True
        return self._slots_taken < self._limit.at(now)

    def _take_room(self) -> _Slot:
        if self._idle:
            return self._idle.pop()
        self._slots_taken += 1
        return None

    def _release(self, account: str, slot: _Slot) -> None:
        """Give back the connection, or the right to open one."""
        self._turns.give_back(account)
        if slot is None:
            self._slots_taken -= 1
        elif not slot.is_ready():
            slot.abort()
            self._slots_taken -= 1
        elif self._is_closing or slot.messages >= slot.max_messages:
            _ = self._retire(slot)
        else:
            slot.idle_since = self._facts_at = self._clock.monotonic()
            self._idle.append(slot)
            if self._sweeper is None:
                self._sweep_later(self._config.max_idle_s)
        if self._turns.waiting:
            self._serve()

    def _serve(self) -> None:
        """Hand free connections to waiting messages, by turns."""
        while self._turns.waiting and self._has_room():
            turn = self._turns.next()
            if turn is None:
                return
            account, waiter = turn
            if not waiter.done():
                self._turns.take(account)
                waiter.set_result(self._take_room())

    def _free_slot(self) -> None:
        self._slots_taken -= 1
        self._serve()

    def _forget(self, connection: Connection) -> None:
        """A connection closed: an idle one frees its slot here, one in use when released."""
        self._working.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            self._free_slot()

    # -- closing -------------------------------------------------------------------------------

    def _retire(self, connection: Connection) -> asyncio.Task[None]:
        """Close a connection politely; its slot is taken until the server knows."""
        self._working.discard(connection)
        return self._tasks.start(self._quit(connection), name="upstream-quit")

    async def _quit(self, connection: Connection) -> None:
        try:
            await connection.quit()
        finally:
            self._free_slot()

    def _sweep_later(self, delay_s: float) -> None:
        self._sweeper = self._loop.call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        """Close the connections that were idle for so long."""
        self._sweeper = None
        now, max_idle_s = self._clock.monotonic(), self._config.max_idle_s
        while self._idle and now - self._idle[0].idle_since >= max_idle_s:
            _ = self._retire(self._idle.pop(0))
        if self._idle:
            self._sweep_later(max_idle_s - (now - self._idle[0].idle_since))

    def _unavailable(self, problem: str, cause: Cause = "lost") -> UpstreamUnavailableError:
        return UpstreamUnavailableError(f"upstream {self._config.name}: {problem}", cause)


def _leave(waiter: _Waiter, _: object) -> None:
    """The client left while its message waited."""
    _end(waiter, NotSentError("client-gone"))


def _end(waiter: _Waiter, error: NotSentError) -> None:
    if not waiter.done():
        waiter.set_exception(error)
