"""The octets of a session: commands in, replies out, time-outs, TLS, and an orderly end.

Messages are taken by :mod:`smtpgate.smtp.messages`, chunks by :mod:`smtpgate.smtp.chunks`.

- Input goes to one buffer of our own. A command is obeyed where its last octet arrives, in the
  event loop's call and without a task. The session has one task, which wakes only for what has
  to wait: AUTH, the message's way, STARTTLS, and the end. While it works, commands wait.
- Replies are collected and written together, so a pipelined group of commands is answered with
  one write (RFC 2920 §3.2).
- A client that pipelines without end does not stop the others: after some commands, or some
  time, or when replies wait, the session yields. A client that reads no replies is not read
  from either.
- One timer a session serves all its waits.
- Nothing that the client does cancels the session's task. A hang-up only ends the input: what
  was handed to the pipeline is carried to its end, and counted.
- TLS is started by the event loop itself, so that uvloop's lean implementation is used.
"""

import asyncio
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, cast

from smtpgate.config.sections import ListenerConfig
from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.core.reply import CATALOGUE, Reply, reply_of
from smtpgate.smtp.arrival import Chunk, IncomingMessage
from smtpgate.tasks import Deadline, LoopTurns, TaskOwner

# What a command leaves to the session's task, because it has to wait.
Work = Callable[[], Awaitable[None]]
# Stands for a line that does not end in CRLF, or holds another CR or a NUL.
ILL_ENDED: Final = b"\n"
# Stands for a line that was longer than a line may be, and was skipped.
TOO_LONG: Final = b"\n\n"
# RFC 5321 §4.5.3.1.4 asks for 512, RFC 4954 §4 for 12,288 on AUTH lines; one bound serves all.
_MAX_LINE_OCTETS: Final = 12_288
# A command costs 5 to 15 µs, so these delay the others for less than a millisecond. A few
# cost a hundred times as much, such as RCPT with a long internationalized domain.
_COMMANDS_AT_ONCE: Final = 50
PAUSE_OCTETS: Final = 64 * 1024
# After a read of more than that the others come first.
_MUCH_OCTETS: Final = 16 * 1024
# Most lines come alone, and to cut one of those takes little time.
_FEW_OCTETS: Final = 1024
_CR: Final = 13
_LF: Final = 10
# What a read costs that fills the buffer, with TLS, and that the event loop does later.
_READ_S: Final = 0.00015
# All sessions read into one buffer, each before the next: so a read costs no memory, and no
# more is read of a client in a turn of the event loop.
_READ: Final = bytearray(PAUSE_OCTETS)
_BUFFER: Final = memoryview(_READ)
# The protocol of closed connections.
_NOBODY: Final = asyncio.BufferedProtocol()
# How long a socket may take to close, once the last reply was sent.
_CLOSE_S: Final = 5.0


class HangUp(Exception):  # noqa: N818 - an event, not an error
    """The session is over: the client left, or gets ``reply`` and is disconnected."""

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__(reply)
        self.reply = reply


class OutOfBudget(HangUp):
    """The session is over, because the client has used up a budget."""

    def __init__(self, budget: BudgetName) -> None:
        name = BUDGETS[budget].reply
        super().__init__(CATALOGUE[name] if name else None)
        self.budget = budget


class GateProtocol(asyncio.BufferedProtocol, ABC):
    """One connection: its buffer, its replies and its life."""

    # Without slots Python finds attributes fast only if there are at most thirty.
    __slots__ = (
        "__weakref__",
        "_at_eof",
        "_auth_deadline",
        "_client_gone",
        "_command_timeout_s",
        "_config",
        "_deadline",
        "_ending",
        "_ends_at",
        "_gone",
        "_input",
        "_is_cut_off",
        "_is_draining",
        "_is_inside_line",
        "_is_lost",
        "_is_paused",
        "_is_too_long",
        "_is_yielding",
        "_may_end",
        "_octets_before_auth",
        "_output",
        "_pause_octets",
        "_tasks",
        "_turns",
        "_waiter",
        "_wire",
        "_writable",
        "chunk",
        "hostname",
        "incoming",
        "is_early",
        "loop",
    )

    def __init__(
        self,
        config: ListenerConfig,
        *,
        hostname: str,
        tasks: TaskOwner,
        loop: asyncio.AbstractEventLoop,
        turns: LoopTurns,
    ) -> None:
        self.hostname = hostname
        self.loop = loop
        self._turns = turns
        self._deadline = Deadline(loop)
        self._ends_at = math.inf  # of a wait for a command, or until replies have been read
        self.use_settings(config)
        self._tasks = tasks
        self._input = bytearray()
        self._is_inside_line = False  # a bare LF came, and the CRLF of its line not yet
        self._is_too_long = False  # so is the line whose end has not come yet
        self._output = b""
        self.incoming: IncomingMessage | None = None
        self.chunk: Chunk | None = None  # that BDAT announced, until all of it has come
        # Of the session's task, while it waits for work.
        self._waiter: asyncio.Future[Work] | None = None
        self._is_yielding = False
        # Bounds on a client that has not logged in.
        self._auth_deadline = math.inf
        self._octets_before_auth: int | None = config.max_octets_before_auth
        self._writable: asyncio.Future[None] | None = None
        self._at_eof = False
        self.is_early = False  # the client sends before it may
        self._client_gone: asyncio.Future[None] | None = None
        self._is_lost = False
        self._is_paused = False
        self._pause_octets = PAUSE_OCTETS
        self._may_end = False  # before its client wants it to
        self._is_draining = self._is_cut_off = False
        self._gone: asyncio.Future[None] | None = None
        self._ending: HangUp | None = None

    def use_settings(self, config: ListenerConfig) -> None:
        """Use these settings from the next wait on."""
        self._config = config
        self._command_timeout_s = config.command_timeout_s
        if self._deadline.at is not None:
            self._look_at_time()  # and look as often as they ask for

    @abstractmethod
    async def serve_client(self) -> None:
        """Greet the client, and obey its commands until the session ends."""

    @abstractmethod
    def obey(self, line: bytes) -> Work | None:
        """Obey one line; what has to wait is returned. Raises HangUp.

        The line is without its CRLF, or ``ILL_ENDED`` or ``TOO_LONG``.
        """

    @abstractmethod
    def take_part(self, incoming: IncomingMessage) -> bool:
        """Take the message, or what has come of a large one; false until there is more."""

    @abstractmethod
    def take_chunk(self, chunk: Chunk) -> bool:
        """Take what has come of a chunk; false until there is more."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """True if a transaction is open."""

    @abstractmethod
    def note_tls_failed(self, error: Exception) -> None:
        """TLS failed, in the handshake or when the client judged the certificate."""

    # -- what the event loop calls -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the session in a task that its owner keeps."""
        self._use(cast("asyncio.Transport", transport))
        self._auth_deadline = self.loop.time() + self._config.auth_timeout_s
        self._look_at_time()
        _ = self._tasks.start(self.serve_client())

    def _use(self, transport: asyncio.Transport) -> None:
        self._wire = transport
        transport.set_write_buffer_limits(high=self._config.max_unread_octets)
        if hasattr(transport, "set_read_buffer_limits"):  # TLS has a buffer of its own
            transport.set_read_buffer_limits(high=PAUSE_OCTETS)

    def get_buffer(self, _size: int) -> memoryview:
        """The buffer for the next octets."""
        return _BUFFER

    def buffer_updated(self, octets: int) -> None:
        """Take in the octets in the buffer; pause the client when it is far ahead of us."""
        if self._gone is not None:
            return  # it gets its last reply, and is closed then
        if self._octets_before_auth is not None:
            self._octets_before_auth -= octets
            if self._octets_before_auth < 0:
                # Read on and forget: unread input when a socket is closed costs the reply.
                self._input.clear()
                self._end_with(OutOfBudget("input-before-auth"))
                return
        if self._input:
            self._input += _BUFFER[:octets]
        else:  # as nearly always: one copy costs less than a view and a copy
            self._input = _READ[:octets]
        self._advance()
        if self._input or octets > _MUCH_OCTETS:
            self._hold_back(octets)

    def _hold_back(self, octets: int) -> None:
        """Pause the client if it is far ahead of us, or has sent so much in one read."""
        # Of a client that reads no replies nothing is looked at, or counted as a message's.
        most = self._pause_octets if self._writable is None else PAUSE_OCTETS
        is_ahead = len(self._input) > most
        if (is_ahead or octets > _MUCH_OCTETS) and not self._is_paused:
            self._is_paused = True
            self._wire.pause_reading()
            if not is_ahead:
                # uvloop would read on while more is there: the other clients come first.
                self._turns.later(self._read_on)

    def _read_on(self) -> None:
        self._turns.spend(_READ_S)
        if not self._at_eof and len(self._input) <= self._pause_octets:
            self._resume_input()

    def _resume_input(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._wire.resume_reading()

    def eof_received(self) -> bool | None:
        """Note the end of input; a half-closed plain connection still gets its replies."""
        self._at_eof = True
        self._note_whether_gone()
        self._advance()
        return self._gone is None and not self.is_tls

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable = self.loop.create_future()
        self._begin_wait()

    def resume_writing(self) -> None:
        """The client has caught up."""
        _wake(self._writable)
        self._writable = None
        self._begin_wait()
        self._advance()
        if self._deadline.at is not None:
            self._look_at_time()  # again at that of the message

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end of the connection; what the session's task does goes on to its end."""
        self._at_eof = self._is_lost = True
        if type(self.loop).__module__ == "uvloop" and hasattr(self, "_wire"):
            # Its TLS keeps the methods of the last protocol: a cycle for the collector. If TLS
            # failed before the session began, there is no transport.
            self._wire.set_protocol(_NOBODY)
        _wake(self._gone)
        self._note_whether_gone()
        self.resume_writing()

    # -- turns ---------------------------------------------------------------------------------

    def next_work(self) -> asyncio.Future[Work]:
        """Obey commands as they come; done with the work that has to wait, or with HangUp.

        The caller must not keep it: an error has a traceback, and that the caller's frame.
        """
        waiter = self._waiter = self.loop.create_future()
        self._begin_wait()
        if self._input or self._may_end:
            self._advance()
        else:
            self._obey()  # there is only a reply to write: it waits for no turn
        return waiter

    def _advance(self) -> None:
        """Take a turn, unless the session's task is at work or others have their turns."""
        if self._waiter is None or self._is_yielding or self._waiter.cancelled():
            return
        if self._turns.may_begin():
            self._obey()
        else:
            self._yield()

    def _yield(self) -> None:
        """Go on in a later turn of the event loop."""
        self._is_yielding = True
        self._turns.later(self._next_turn)

    def _obey(self) -> None:
        """Obey complete commands, so many and for so long that others are not delayed."""
        obeyed = 0
        try:
            while self._waiter is not None:
                if self._may_end and (self.incoming is None or self._is_cut_off):
                    self.end_if_due()
                if self._writable is not None:
                    if self._deadline.at is None:
                        self._look_at_time()
                    break
                if obeyed and self._input and self._has_had_turn(obeyed):
                    self._yield()
                    break
                if not (self._input and self._obey_one()):
                    self._await_input()
                    break
                self._ends_at = self.loop.time() + self._command_timeout_s
                obeyed += 1
        except Exception as error:  # noqa: BLE001 - the session's task ends with it
            self._end_now(error)
        else:
            self._write()

    def _has_had_turn(self, obeyed: int) -> bool:
        return obeyed == _COMMANDS_AT_ONCE or not self._turns.has_time()

    def _next_turn(self) -> None:
        self._is_yielding = False
        if self._waiter is not None and not self._waiter.cancelled():
            self._obey()

    def _obey_one(self) -> bool:
        """Obey the next command, or take the message; false until all of it has come."""
        if self.chunk is not None:
            return self.take_chunk(self.chunk)
        if self.incoming is not None and self.incoming.kept is None:
            return self.take_part(self.incoming)
        line = self._cut_line()
        if line is None:
            return False
        work = self.obey(line)
        if work is not None:
            self._leave(work)
        return True

    def _leave(self, work: Work | None) -> None:
        """Leave what has to wait, if anything, to the session's task."""
        if work is not None and self._waiter is not None:
            self._waiter.set_result(work)
            self._waiter = None

    def _cut_line(self) -> bytes | None:
        """Cut the next line out of the input, or ``None`` until all of it has come."""
        octets = self._input
        if len(octets) <= _FEW_OCTETS and not (self._is_inside_line or self._is_too_long):
            line, end, _ = bytes(octets).partition(b"\r\n")
            if end and _CR not in line and _LF not in line and 0 not in line:
                del octets[: len(line) + 2]
                return line
        return self._cut_any_line()

    def _cut_any_line(self) -> bytes | None:
        """The same of any line; for most of them ``_cut_line`` alone takes less time.

        A line that is too long is skipped, in however many parts it came.
        """
        end = self._input.find(b"\n")
        if end > _MAX_LINE_OCTETS or (end < 0 and len(self._input) > _MAX_LINE_OCTETS):
            self._is_too_long = True
        if end < 0:
            if self._is_too_long:
                self._input.clear()
            return None
        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        if self._is_too_long:
            self._is_too_long = False
            return TOO_LONG
        if not end or line.find(b"\r") != end - 1 or 0 in line or self._is_inside_line:
            # Only CRLF ends a line (RFC 5321 §2.3.8): what follows a bare LF is no command.
            self._is_inside_line = not line.endswith(b"\r\n")
            return ILL_ENDED
        return line[:-2]

    def _await_input(self) -> None:
        """Let the client send more. Raises HangUp at its end."""
        if self._at_eof:
            raise HangUp
        if self._deadline.at is None:
            self._look_at_time()
        if self._is_paused:
            self._resume_input()

    def _write(self) -> None:
        """Write the queued replies."""
        if self._output and not self._is_lost:
            self._wire.write(self._output)
        self._output = b""

    def _begin_wait(self) -> None:
        """Wait for a command from now on, or until the client has read its replies."""
        is_read = self._writable is None
        timeout_s = self._command_timeout_s if is_read else self._config.reply_timeout_s
        self._ends_at = self.loop.time() + timeout_s

    def _look_at_time(self) -> None:
        """End the session if its client has taken longer than it may; otherwise look again.

        A timer that is moved for each wait would cost more than the command that is waited
        for. So a session looks whenever the shortest wait could have ended that begins now.
        """
        now, config, expected = self.loop.time(), self._config, self.chunk or self.incoming
        ends_at = self._ends_at
        if expected is not None and self._writable is None:
            ends_at = expected.deadline
        ends_at = min(ends_at, self._auth_deadline)
        if now < ends_at:
            timeouts = self._command_timeout_s, config.reply_timeout_s, config.data_timeout_s
            self._deadline.move(min(ends_at, now + min(timeouts)), self._look_at_time)
        elif self._waiter is not None and not self._is_yielding:
            self._time_out()
        # Otherwise the session is at work, or will be, and looks when it waits again.

    def _time_out(self) -> None:
        """End the session: the client has taken longer than it may."""
        budget: BudgetName = "command-time"
        if self.loop.time() >= self._auth_deadline:
            budget = "auth-time"
        elif self._writable is not None:
            budget = "reply-time"
        elif self.chunk is not None or self.incoming is not None:
            budget = "message-time"
        self._end_now(OutOfBudget(budget))

    def _end_now(self, error: Exception) -> None:
        """End the session with that error, unless its task is at work."""
        if self._waiter is not None and not self._waiter.cancelled():
            self._waiter.set_exception(error)
            self._waiter = None

    # -- what the session calls ----------------------------------------------------------------

    @property
    def is_tls(self) -> bool:
        """True if the connection is encrypted."""
        return self._wire.get_extra_info("ssl_object") is not None

    @property
    def cipher(self) -> tuple[str, str, int] | None:
        """The cipher with its TLS version and its bits; ``None`` without TLS."""
        cipher: tuple[str, str, int] | None = self._wire.get_extra_info("cipher")
        return cipher

    @property
    def client_gone(self) -> asyncio.Future[None]:
        """Done once the client has left: its connection is lost, or it ended its input without
        another command, so that it does not wait for a reply (RFC 5321 §4.1.1.10).
        """
        if self._client_gone is None:
            self._client_gone = self.loop.create_future()
            self._note_whether_gone()
        return self._client_gone

    def _note_whether_gone(self) -> None:
        if self._is_lost or (self._at_eof and not self._input):
            _wake(self._client_gone)

    def drain(self) -> None:
        """End after the current transaction; at once when there is none."""
        self._is_draining = self._may_end = True
        self._advance()

    def request_end(self, last_word: Reply) -> None:
        """End with that reply before the next command, also within a transaction.

        A message that is coming in is read to its end, and a message in the pipeline is carried
        to its end; both are answered first.
        """
        self._end_with(HangUp(last_word))

    def cut_off(self, last_word: Reply) -> None:
        """End with that reply, also while a message comes in."""
        self._is_cut_off = True
        self._end_with(HangUp(last_word))

    def _end_with(self, ending: HangUp) -> None:
        self._ending, self._may_end = self._ending or ending, True
        self._advance()

    def lift_bounds_before_auth(self) -> None:
        """The client has logged in: the bounds on strangers are not for it any more."""
        self._auth_deadline, self._octets_before_auth = math.inf, None

    def abort(self) -> None:
        """Close without another reply."""
        self._wire.abort()

    @abstractmethod
    def reply(self, reply: Reply) -> None:
        """Queue a reply; it is written when the session next waits."""

    async def flush(self) -> None:
        """Write the queued replies; wait while the client reads too slowly. Raises HangUp."""
        self._write()
        if self._writable is not None:
            try:
                writable = asyncio.shield(self._writable)
                await asyncio.wait_for(writable, self._config.reply_timeout_s)
            except TimeoutError:
                raise OutOfBudget("reply-time") from None

    def end_if_due(self) -> None:
        """Raises HangUp when the session is to end; pipelined commands are not obeyed then."""
        if self._ending is not None:
            raise self._ending
        if self._is_draining and not self.in_transaction:
            raise HangUp(reply_of("shutting-down", hostname=self.hostname))

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Encrypt the connection. Raises HangUp when the handshake fails.

        Octets in plain text behind STARTTLS are forgotten (RFC 3207 §4.2).
        """
        await self.flush()
        self._input.clear()
        timeout_s = self._config.handshake_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                transport = await self.loop.start_tls(
                    self._wire,
                    self,
                    context,
                    server_side=True,
                    ssl_handshake_timeout=timeout_s + _CLOSE_S,  # ours comes first
                    ssl_shutdown_timeout=_CLOSE_S,
                )
        except OSError as error:  # a time-out is one
            # The event loop does not report a connection as lost when its handshake fails.
            self.abort()
            self.connection_lost(None)
            if isinstance(error, TimeoutError):
                raise OutOfBudget("handshake-time") from None
            self.note_tls_failed(error)
            raise HangUp from None
        if transport is None or self._is_lost:
            raise HangUp
        self._use(transport)

    async def close(self, last_word: Reply | None = None) -> None:
        """Send the last reply, if any, and close; returns when the socket is closed.

        A client that does not read its replies, or does not close TLS, is cut off.
        """
        if last_word is not None:
            self.reply(last_word)
        self._deadline.close()
        try:
            await self.flush()
        except HangUp:
            self.abort()
        self._gone = self.loop.create_future()
        self._resume_input()
        is_sending = self.is_early or self.incoming is not None or self.chunk is not None
        if self._wire.is_closing() or self._at_eof or not is_sending or self.is_tls:
            self._wire.close()
        else:
            # It is sending, and a socket that is closed with unread input costs the reply.
            with suppress(OSError):  # it may have closed its own
                self._wire.write_eof()
        if self._is_lost:
            return
        timer = self.loop.call_later(_CLOSE_S, self._give_up)
        try:
            await self._gone
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self.abort()
        self.loop.call_later(_CLOSE_S, _wake, self._gone)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
