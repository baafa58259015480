"""The octets of a session: lines in, replies out, time-outs, TLS, and an orderly end.

It stands on aiosmtpd's ``SMTP`` protocol class and replaces the parts of it that cost or
endanger a relay. In particular:

- Input goes to one buffer of our own. A command is cut out of it when complete; the message is
  taken in bulk, with one search for the final dot, never line by line.
- Replies are collected and written together when the session has to wait, so a pipelined group
  of commands is answered with one write (RFC 2920 §3.2).
- Nothing that the client does cancels the session's task. A hang-up only ends the input: what
  was handed to the pipeline is carried to its end, and counted.
- TLS is started by the event loop itself, so that uvloop's lean implementation is used.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Final, cast

from aiosmtpd.smtp import SMTP

from smtpgate.core.reply import CATALOGUE, Reply, reply_of
from smtpgate.smtp.intake import MessageIntake
from smtpgate.tasks import TaskOwner

__all__ = ["ILL_ENDED", "GateProtocol", "HangUp"]

# Stands for a line that does not end in CRLF, or holds another CR or a NUL.
ILL_ENDED: Final = b"\n"
# RFC 5321 §4.5.3.1.4 asks for 512, RFC 4954 §4 for 12,288 on AUTH lines; one bound serves all.
_MAX_LINE_OCTETS: Final = 12_288
_PAUSE_OCTETS: Final = 256 * 1024
_SLOW_READER_S: Final = 60


class HangUp(Exception):  # noqa: N818 - an event, not an error
    """The session is over: the client left, or is told to go with ``reply``."""

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__(reply)
        self.reply = reply


class GateProtocol(SMTP):
    """One connection: its buffer, its replies and its life."""

    def __init__(
        self, *, hostname: str, tasks: TaskOwner, loop: asyncio.AbstractEventLoop
    ) -> None:
        # The base keeps one table of limits on its class, and each new connection would clear
        # the others' entries; this instance gets its own before the base sees it.
        self.command_size_limits = {}
        super().__init__(None, hostname=hostname, loop=loop)
        self.in_transaction = False
        self._tasks = tasks
        self._input = bytearray()
        self._output: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._at_eof = False
        self._is_lost = False
        self._is_paused = False
        self._takes_message = False
        self._is_draining = False
        self._last_word: Reply | None = None

    def __dir__(self) -> Iterable[str]:
        """Nothing: the base looks for its hooks with ``dir()`` on every connection (90 µs)."""
        return ()

    # -- what the event loop calls -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the session in a task that its owner holds."""
        self.transport = transport
        self._wire = cast("asyncio.Transport", transport)
        self._handler_coroutine = self._tasks.start(self._handle_client())

    def data_received(self, data: bytes) -> None:
        """Collect input; stop the client when it is far ahead of us."""
        self._input += data
        if len(self._input) > _PAUSE_OCTETS and not self._takes_message and not self._is_paused:
            self._is_paused = True
            self._wire.pause_reading()
        _wake(self._waiter)

    def eof_received(self) -> bool | None:
        """Note the end of input; a half-closed plain connection still hears its replies."""
        self._at_eof = True
        _wake(self._waiter)
        return not self.is_tls

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        """The client has caught up."""
        _wake(self._writable)
        self._writable = None

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end of the connection; the session's task finds out when it next waits."""
        self._at_eof = self._is_lost = True
        _wake(self._waiter)
        self.resume_writing()

    # -- what the session calls ----------------------------------------------------------------

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._wire.get_extra_info("ssl_object") is not None

    @property
    def peer_address(self) -> str:
        """The client's IP address, without port or zone."""
        peer = self._wire.get_extra_info("peername")
        return str(peer[0]).partition("%")[0] if peer else "unknown"

    def begin_drain(self) -> None:
        """End after the current transaction; at once when there is none."""
        self._is_draining = True
        _wake(self._waiter)

    def begin_end(self, last_word: Reply) -> None:
        """End with that reply before the next command, also within a transaction.

        A message that is on its way in is read to its end, and what was handed to the pipeline
        is carried to its end; both are answered first.
        """
        self._last_word = self._last_word or last_word
        _wake(self._waiter)

    def abort(self) -> None:
        """Close without another word."""
        self._wire.abort()

    def reply(self, reply: Reply) -> None:
        """Queue a reply; it is written when the session next waits."""
        self._output.append(reply.wire())

    def reply_lines(self, wire: bytes) -> None:
        """Queue a reply that is already in wire form."""
        self._output.append(wire)

    async def flush(self) -> None:
        """Write what is queued; wait while the client reads too slowly. Raises HangUp."""
        if not self._output:
            return
        octets = b"".join(self._output)
        self._output.clear()
        if not self._is_lost:
            self._wire.write(octets)
        if self._writable is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._writable), _SLOW_READER_S)
            except TimeoutError:
                raise HangUp from None

    async def _more_input(self, timeout_s: float) -> None:
        """Flush, then wait for octets. Raises HangUp at the end of input or of patience."""
        await self.flush()
        if self._at_eof:
            raise HangUp
        if not self._takes_message:
            self._end_if_told()
        if self._is_draining and not self.in_transaction:
            raise HangUp(reply_of("shutting-down", hostname=self.hostname))
        if timeout_s <= 0:
            raise HangUp(CATALOGUE["idle"])
        if self._is_paused:
            self._is_paused = False
            self._wire.resume_reading()
        waiter = self._waiter = self.loop.create_future()
        timer = self.loop.call_later(timeout_s, _time_out, waiter)
        try:
            await waiter
        except TimeoutError:
            raise HangUp(CATALOGUE["idle"]) from None
        finally:
            timer.cancel()
            self._waiter = None

    async def read_line(self, timeout_s: float) -> bytes:
        """The next line without its CRLF, or ``ILL_ENDED``. Raises HangUp.

        A line that is too long is answered here and skipped, in however many parts it came.
        """
        while not 0 <= (end := self._input.find(b"\n")) <= _MAX_LINE_OCTETS:
            if len(self._input) > _MAX_LINE_OCTETS:
                await self._skip_line(timeout_s)
            else:
                await self._more_input(timeout_s)
        self._end_if_told()
        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        if b"\0" in line or line.find(b"\r") != end - 1:
            return ILL_ENDED
        return line[:-2]

    def _end_if_told(self) -> None:
        """Raises HangUp: commands that were pipelined are not obeyed any more."""
        if self._last_word is not None:
            raise HangUp(self._last_word)

    async def _skip_line(self, timeout_s: float) -> None:
        while (end := self._input.find(b"\n")) < 0:
            self._input.clear()
            await self._more_input(timeout_s)
        del self._input[: end + 1]
        self.reply(CATALOGUE["line-too-long"])

    async def read_message(self, intake: MessageIntake, timeout_s: float) -> bytes | None:
        """The message up to the final dot, dot-stuffed, or ``None`` when the intake refused it.

        All of it must come within the time. Raises HangUp.
        """
        deadline = self.loop.time() + timeout_s
        self._takes_message = True
        try:
            while (size := intake.look(self._input)) is None:
                await self._more_input(deadline - self.loop.time())
        finally:
            self._takes_message = False
        message = None if intake.refusal else bytes(memoryview(self._input)[:size])
        # A new buffer: the memory of a large message is not kept for the session's life.
        self._input = self._input[size + 3 :]
        return message

    async def start_tls(self, context: ssl.SSLContext, timeout_s: float) -> None:
        """Encrypt the connection. Raises HangUp when the handshake fails.

        What the client sent in plain text behind STARTTLS is forgotten (RFC 3207 §4.2).
        """
        await self.flush()
        self._input.clear()
        try:
            transport = await self.loop.start_tls(
                self._wire, self, context, server_side=True, ssl_handshake_timeout=timeout_s
            )
        except (OSError, TimeoutError):
            raise HangUp from None
        if transport is None or self._is_lost:
            raise HangUp
        self.transport = self._wire = transport

    async def close(self, last_word: Reply | None = None) -> None:
        """Say the last word, if any, and close."""
        if last_word is not None:
            self.reply(last_word)
        try:
            await self.flush()
        except HangUp:
            self.abort()
        self._wire.close()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
