"""One connection to the upstream: a socket around the session that decides.

A protocol of our own and no streams: the octets of a reply go to the session where they
arrive, and the waiting task is woken once, for the outcome. One timer a connection serves all
its waits; it is moved only when it fires, because most waits end long before.

The write buffer is kept empty (``_LIMITS``): while the transport buffers octets it pauses us,
and the last octets of a message are among them. So a connection that breaks while we are paused
has not sent the final dot, and nothing is in doubt.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.message.body import Body, Octets
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import (
    Answered,
    Cause,
    Done,
    Failed,
    InDoubt,
    RefusedInPart,
    Send,
    SendMessage,
    SendWhole,
    StartTls,
    Step,
    Terms,
    UpstreamSession,
    UpstreamUnavailableError,
)
from smtpgate.core.upstream.limits import ServerLimits
from smtpgate.ports import DeliveryAttempt, InPart
from smtpgate.relay.traced import tracing
from smtpgate.tasks import Deadline, Offload
from smtpgate.tracing import SERVED

_CHUNK_OCTETS: Final = 260 * 1024  # one piece, with the header block or the final dot
_LIMITS: Final = {"high": 1, "low": 0}  # octets; at 0 a TLS transport would pause for nothing
_QUIT_S: Final = 2.0


class StaleConnectionError(UpstreamUnavailableError):
    """The connection ended before it answered anything: on a fresh one it may succeed."""


class Connection(asyncio.Protocol):
    """One connection, good for one transaction after another.

    ``deadline`` is in the event loop's time: no wait goes beyond it. ``on_closed`` is called
    once, when the connection cannot be used any more, and ``offload`` reads messages in files.
    ``messages`` counts transactions, ``max_messages`` is how many the configuration and the
    server allow, and ``idle_since`` is for the pool.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        terms: Terms,
        deadline: float,
        on_closed: Callable[["Connection"], None],
        offload: Offload,
    ) -> None:
        self.messages = 0
        self.max_messages = config.max_messages
        self.idle_since = 0.0
        self._config = config
        self._terms = terms
        self._on_closed = on_closed
        self._offload = offload
        self._loop = asyncio.get_running_loop()
        self._session = UpstreamSession(terms)
        self._transport: asyncio.Transport  # from connection_made on, before which none waits
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._is_dropped = False
        self._result: Step | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._is_last_write = False
        self._awaits_replies = False
        self._deadline = deadline
        self._patience_s = 0.0
        self._expiry = Deadline(self._loop)
        served = SERVED.get()  # by the message for which it is opened
        self._tracing = None if served is None else tracing(served, terms)

    # -- what the pool uses --------------------------------------------------------------------

    def is_ready(self) -> bool:
        """True if a transaction can begin; to be checked when it does, and not before.

        A result that nobody took is the verdict on a message that was given up.
        """
        return (
            self._session.state == "ready"
            and self._result is None
            and not self._transport.is_closing()
        )

    @property
    def extensions(self) -> frozenset[str]:
        """The keywords that EHLO offered."""
        return frozenset(self._session.extensions)

    @property
    def limits(self) -> ServerLimits:
        """The limits that EHLO announced (RFC 9422)."""
        return self._session.limits

    @property
    def peer_certificate(self) -> dict[str, Any]:
        """The certificate of the server, if it was verified, as the module ssl has it."""
        return self._transport.get_extra_info("peercert") or {}

    @property
    def max_octets(self) -> int | None:
        """The largest message that the server takes (RFC 1870 §4), if it announced one."""
        return self._session.max_octets

    async def become_ready(self, context: ssl.SSLContext | None, server_name: str) -> None:
        """Wait for the greeting, EHLO, TLS and login. Raises UpstreamUnavailableError.

        A failed TLS handshake is raised as the OSError that it is.
        """
        if isinstance(await self._next(), StartTls):
            await self._start_tls(context, server_name)
            await self._next()
        if not self.is_ready():  # it closed in the moment in which it was ready
            problem = "it closed the connection before its first use"
            raise UpstreamUnavailableError(f"upstream {self._config.name}: {problem}")
        if self.limits.mails is not None:
            self.max_messages = min(self.max_messages, self.limits.mails)

    async def deliver(
        self,
        envelope: Envelope,
        message: Sequence[Body],
        deadline: float,
        attempt: DeliveryAttempt,
    ) -> Answered | InDoubt:
        """Carry out one transaction. Raises NotSentError.

        Whatever cuts it short ends the connection, and the attempt has what is certain then.
        When the transaction cannot begin, nothing was sent and the connection is as it was.
        """
        if not self.is_ready():
            raise StaleConnectionError(self._terms.named("the kept connection was closed"))
        self._deadline = deadline
        self._is_last_write = False
        served = SERVED.get()
        self._tracing = None if served is None else tracing(served, self._terms)
        may_be_in_part = attempt.in_part is not None
        session = self._session
        steps = session.begin(envelope, message, may_be_in_part=may_be_in_part)
        if session.state == "busy":  # else nothing is sent
            self.messages += 1
        try:
            self._carry_out(steps)
            while (step := self._result) is None:  # as _next does, without its coroutine
                await self._woken()
            self._result = None
            if not isinstance(step, Done):
                step = await self._go_on(_unless_failed(step), attempt)
        except BaseException:
            attempt.certain = self._cut_short()
            raise
        finally:
            self._tracing = None
        return step.delivery

    async def _go_on(self, step: Step, attempt: DeliveryAttempt) -> Done:
        """Have refused recipients recorded, and send a large message."""
        if isinstance(step, RefusedInPart) and attempt.in_part is not None:
            attempt.is_in_part = True
            step = await self._in_part(step, attempt.in_part)
        if isinstance(step, SendMessage):
            await self._stream(step)
            step = await self._next()
        return cast("Done", step)

    async def _in_part(self, step: RefusedInPart, in_part: InPart) -> Step:
        """Send the message to the accepted recipients, if the others' refusals are recorded."""
        may_be_sent = await in_part(step.refused)
        if not self._has_result:  # else the server is gone meanwhile
            self._carry_out(self._session.go_on() if may_be_sent else self._session.leave())
        return await self._next()

    async def check(self, deadline: float) -> None:
        """See whether the server still serves us. Raises UpstreamUnavailableError."""
        self._deadline = deadline
        try:
            self._carry_out(self._session.check())
            await self._next()
        except BaseException:
            self.abort()
            raise

    async def quit(self) -> None:
        """Send QUIT, without waiting long for the answer."""
        if self.is_ready():
            for step in self._session.quit():
                self._transport.write(cast("Send", step).octets)
            await asyncio.wait([self._gone], timeout=_QUIT_S)
        self.abort()

    def abort(self) -> None:
        """Drop the connection, whatever it is doing."""
        self._carry_out(self._session.hung_up("the connection was dropped"))

    # -- what the event loop calls -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting; the server speaks first."""
        self._use(cast("asyncio.Transport", transport))
        # A message is one write, and its last segment must not wait for an acknowledgement.
        endpoint = transport.get_extra_info("socket")
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        terms = replace(
            self._terms,
            is_encrypted=transport.get_extra_info("ssl_object") is not None,
            is_loopback=_is_loopback(transport.get_extra_info("peername")),
        )
        self._session = UpstreamSession(terms)
        if self._tracing is not None:
            self._tracing.connected(transport.get_extra_info("peername"))
        self._watch(self._config.command_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Hand the octets to the session, and carry out its steps."""
        if self._tracing is not None:
            self._tracing.take_replies(data)
        steps = self._session.receive(data)
        if not steps and self._session.has_answer and self._session.replies_due:
            # The next reply has its own time, though it answers the same flight.
            self._watch(self._patience_s)
        self._carry_out(steps)
        if self._awaits_replies:
            self._wake()

    def eof_received(self) -> None:
        """The server sends no more."""
        self._carry_out(self._session.hung_up("it closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        reason = "it closed the connection" if exc is None else reason_of(exc)
        self._carry_out(self._session.hung_up(reason))
        self._expiry.close()
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        """The transport buffers octets."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """All octets have left."""
        self._is_paused = False
        if self._is_last_write:
            self._is_last_write = False
            self._session.message_sent()
        self._wake()

    # -- inside --------------------------------------------------------------------------------

    def _cut_short(self) -> Answered | InDoubt | None:
        """Drop the connection; what is certain of the transaction that was cut short."""
        self.abort()
        return self._result.delivery if isinstance(self._result, Done) else None

    def _use(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(**_LIMITS)
        self._transport = transport

    async def _start_tls(self, context: ssl.SSLContext | None, server_name: str) -> None:
        try:
            until = self._loop.time() + self._config.connect_timeout_s
            async with asyncio.timeout_at(min(until, self._deadline)):
                encrypted = await self._loop.start_tls(
                    self._transport,
                    self,
                    cast("ssl.SSLContext", context),
                    server_hostname=server_name,
                )
            if encrypted is None:
                raise ConnectionResetError
        except OSError:
            self.abort()
            raise
        self._use(encrypted)
        if self._tracing is not None:
            self._tracing.note("TLS begins")
        self._carry_out(self._session.tls_started())

    def _carry_out(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if self._tracing is not None:
                self._tracing.take_step(step)
            if isinstance(step, Send):
                self._transport.write(step.octets)
                self._watch(self._config.command_timeout_s)
            elif isinstance(step, SendWhole):
                self._write_last(step.wire)
            else:
                self._result, self._expiry.at = step, None
                self._wake()
        if self._session.state == "closed" and not self._is_dropped:
            self._is_dropped = True
            self._on_closed(self)
            self._transport.abort()

    async def _stream(self, step: SendMessage) -> None:
        """Send a large message chunk by chunk, as far as turns of the loop have time."""
        chunks = _in_chunks(step.pieces) if step.in_chunks else _chunks(step.pieces)
        is_last = False
        while not is_last:
            async with asyncio.timeout_at(self._deadline):
                chunk, is_last = await self._offload.run(step.reads_file, next, chunks)
            if self._result is not None or not self._session.wants_chunks:
                return
            if step.in_chunks and not await self._may_write_chunk(is_last=is_last):
                return
            if is_last:
                self._write_last(chunk)
            else:
                self._transport.write(chunk)
                self._offload.turns.worked()
                self._watch(self._config.data_timeout_s)
            while self._is_paused and not self._has_result:
                await self._woken()
            if self._has_result:
                return

    async def _may_write_chunk(self, *, is_last: bool) -> bool:
        """True if the chunk goes out now; the last one waits until all others were accepted."""
        self._awaits_replies = is_last
        while is_last and self._session.replies_due and self._session.wants_chunks:
            await self._woken()
            if self._has_result:
                break
        self._awaits_replies = False
        may_write = not self._has_result and self._session.wants_chunks
        if may_write:
            self._session.chunk_written(is_last=is_last)
        return may_write

    @property
    def _has_result(self) -> bool:
        """True if there is a step to take: the server refused the rest, or is gone."""
        return self._result is not None

    def _write_last(self, octets: bytes) -> None:
        """Write the octets that end with the final dot, and note whether they left."""
        transport = self._transport
        transport.write(octets)
        self._watch(self._config.data_timeout_s)
        # A transport that is closing could not write, and one that paused us buffers octets.
        self._is_last_write = self._is_paused or transport.is_closing()
        if not self._is_last_write:
            self._session.message_sent()

    async def _next(self) -> Step:
        """The next step that is not the protocol's own. Raises UpstreamUnavailableError."""
        while (step := self._result) is None:
            await self._woken()
        self._result = None
        return _unless_failed(step)

    def _woken(self) -> asyncio.Future[None]:
        """Done when something has changed."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self, patience_s: float) -> None:
        """Wait so long from now on, but not past the deadline."""
        self._patience_s = patience_s
        until = self._loop.time() + patience_s
        if until > self._deadline:
            until = self._deadline
        self._expiry.move(until, self._time_out)

    def _time_out(self) -> None:
        is_late = self._loop.time() >= self._deadline
        after = "before the deadline" if is_late else f"within {self._patience_s:g} s"
        self._carry_out(self._session.timed_out(after))


def _unless_failed(step: Step) -> Step:
    """The step, if the connection is still of use. Raises UpstreamUnavailableError."""
    if isinstance(step, Failed):
        if step.is_stale:
            raise StaleConnectionError(str(step.error), step.error.delivery.cause or "lost")
        raise step.error
    return step


def _chunks(pieces: Iterable[Octets]) -> Iterator[tuple[bytes, bool]]:
    """The pieces joined to chunks of about one size, and which is the last."""
    batch: list[Octets] = []
    size = 0
    for piece in pieces:
        if batch and size + len(piece) > _CHUNK_OCTETS:
            yield b"".join(batch), False
            batch, size = [], 0
        batch.append(piece)
        size += len(piece)
    yield b"".join(batch), True


def _in_chunks(pieces: Iterable[Octets]) -> Iterator[tuple[bytes, bool]]:
    """The pieces as they are, and which is the last."""
    ahead = iter(pieces)
    chunk = bytes(next(ahead))
    for following in ahead:
        yield chunk, False
        chunk = bytes(following)
    yield chunk, True


def _is_loopback(peer: object) -> bool:
    return isinstance(peer, tuple) and ipaddress.ip_address(peer[0]).is_loopback


def cause_of(error: Exception) -> Cause:
    """The kind of failure when no connection could be opened."""
    match error:
        case ssl.SSLError():
            return "tls"
        case TimeoutError():
            return "timeout"
    return "connect"


def reason_of(error: Exception) -> str:
    """The reason why a connection failed, without an address of the gate."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate not accepted: {_plain(error.verify_message)}"
        case ssl.SSLError():
            return f"TLS failed: {_plain(error.reason or 'handshake').replace('_', ' ')}"
        case TimeoutError():
            return "timed out"
        case socket.gaierror():
            return _plain(error.strerror or "name not found")
        case OSError(errno=int(errno)):
            return _plain(os.strerror(errno))
    return "connection lost"


def _plain(text: str) -> str:
    """As our messages are: lower case at first, and no full stop."""
    text = text.lower() if text.isupper() else text
    text = text.removesuffix(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]  # "IP address mismatch"
