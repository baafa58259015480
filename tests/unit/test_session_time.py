"""The times of a session: what has come in time counts, though the session is at work then."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smtpgate.config.sections import ListenerConfig
from smtpgate.core.reply import Reply
from smtpgate.smtp.arrival import Chunk, IncomingMessage
from smtpgate.smtp.protocol import GateProtocol, HangUp
from smtpgate.tasks import LoopTurns, TaskOwner
from tests.support.clock import VirtualLoop

_CONFIG = ListenerConfig(
    name="plain",
    port=0,
    tls="none",
    allow_plaintext_auth=True,
    auth_timeout_s=30,
    command_timeout_s=60,
    reply_timeout_s=40,
    data_timeout_s=50,
)


class _Wire:
    """A transport whose client gets all that is written."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method
        return lambda *_, **__: None


class _Session(GateProtocol):
    """A session with three commands: AUTH, DATA, and WORK with the seconds that it takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks, turns = TaskOwner(), LoopTurns(loop.time)
        super().__init__(_CONFIG, hostname="gate", tasks=tasks, loop=loop, turns=turns)
        self.ended: tuple[float, str] | None = None
        self.messages = 0

    async def serve_client(self) -> None:
        try:
            while True:
                work = cast("float", await self.next_work())
                await asyncio.sleep(work)
        except HangUp as end:
            self.ended = self.loop.time(), str(getattr(end, "budget", ""))

    def obey(self, line: bytes) -> Any:  # noqa: ANN401 - the seconds stand for work
        verb, _, argument = line.partition(b" ")
        if verb == b"AUTH":
            self.lift_bounds_before_auth()
        if verb == b"DATA":
            deadline = self.loop.time() + _CONFIG.data_timeout_s
            incoming = SimpleNamespace(deadline=deadline, kept=None)
            self.incoming = cast("IncomingMessage", incoming)
        return float(argument) if verb == b"WORK" else None

    def take_part(self, incoming: IncomingMessage) -> bool:
        del incoming
        if not self._input.endswith(b"\r\n.\r\n"):
            return False
        self._input.clear()
        self.incoming = None
        self.messages += 1
        return True

    def take_chunk(self, chunk: Chunk) -> bool:
        raise NotImplementedError

    def reply(self, reply: Reply) -> None:
        raise NotImplementedError

    def note_tls_failed(self, error: Exception) -> None:
        raise NotImplementedError

    @property
    def in_transaction(self) -> bool:
        return self.incoming is not None

    def get(self, octets: bytes) -> None:
        """Receive octets."""
        self.get_buffer(0)[: len(octets)] = octets
        self.buffer_updated(len(octets))


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


@pytest.fixture
def session(loop: VirtualLoop) -> Iterator[_Session]:
    made = _Session(loop)
    _ = loop.call_soon(made.connection_made, cast("asyncio.Transport", _Wire()))
    yield made
    _ = loop.call_soon(made.connection_lost, None)
    loop.pass_time(100)


def test_a_login_that_came_in_time_counts_though_the_session_was_at_work(
    loop: VirtualLoop, session: _Session
) -> None:
    loop.pass_time(28)
    _ = loop.call_soon(session.get, b"WORK 5\r\n")
    _ = loop.call_soon(session.get, b"AUTH\r\n")
    loop.pass_time(60)
    assert session.ended is None
    loop.pass_time(10)
    assert session.ended == (33 + 60, "command-time")


def test_a_login_that_did_not_come_while_the_session_was_at_work_is_too_late(
    loop: VirtualLoop, session: _Session
) -> None:
    loop.pass_time(28)
    _ = loop.call_soon(session.get, b"WORK 5\r\n")
    loop.pass_time(6)
    assert session.ended == (33, "auth-time")


def test_the_time_of_a_message_is_not_longer_for_a_client_that_read_late(
    loop: VirtualLoop, session: _Session
) -> None:
    _ = loop.call_soon(session.get, b"AUTH\r\n")
    _ = loop.call_soon(session.get, b"DATA\r\n")
    loop.pass_time(15)
    _ = loop.call_soon(session.pause_writing)
    loop.pass_time(34)
    _ = loop.call_soon(session.resume_writing)
    loop.pass_time(2)
    assert session.ended == (50, "message-time")


def test_the_time_of_replies_begins_when_they_are_not_read(
    loop: VirtualLoop, session: _Session
) -> None:
    _ = loop.call_soon(session.get, b"AUTH\r\n")
    loop.pass_time(15)
    _ = loop.call_soon(session.pause_writing)
    _ = loop.call_soon(session.get, b"DATA\r\n")
    loop.pass_time(41)
    assert (session.ended, session.messages) == ((55, "reply-time"), 0)
