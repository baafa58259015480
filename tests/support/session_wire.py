"""A session without a socket: its octets are fed to it in pieces, its replies are collected."""

import asyncio
from collections.abc import Iterable

from smtpgate.core.message.envelope import Client
from smtpgate.smtp.dialogue import Dialogue
from smtpgate.smtp.session import SmtpSession
from smtpgate.smtp.session_parts import SessionParts
from smtpgate.smtp.sockets import ConnectionSlots, Sockets


class Wire(asyncio.Transport):
    """The transport of one session."""

    def __init__(self, session: SmtpSession) -> None:
        super().__init__()
        self.said = b""
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.closed = asyncio.get_running_loop().create_future()
        self._session = session
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._is_closing, "written after the end"
        self.said += data

    def write_eof(self) -> None:
        self._end()

    def close(self) -> None:
        self._end()

    def abort(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def _lose(self) -> None:
        self._session.connection_lost(None)
        self.may_send.set()
        self.closed.set_result(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.may_send.clear()

    def resume_reading(self) -> None:
        self.may_send.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        assert low is None

    def get_extra_info(self, name: str, default: object = None) -> object:
        assert name in ("ssl_object", "cipher")
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert protocol is not None


class _Owner:
    """The listener, for sessions that none accepted."""

    def enter(self, session: Dialogue) -> None:
        assert session.owner is self

    def leave(self, session: Dialogue) -> None:
        session.place.give_back()


def feed(session: SmtpSession, octets: bytes) -> None:
    """Have octets come to the session, as an event loop does."""
    session.get_buffer(len(octets))[: len(octets)] = octets
    session.buffer_updated(len(octets))


async def converse(parts: SessionParts, pieces: Iterable[bytes], *, turns: int) -> bytes:
    """All that a session says to these octets, with some turns of the event loop after each.

    The client keeps to what the session asks of it: it sends no more while it is paused.
    """
    slots = ConnectionSlots(parts.config, Sockets(10))
    place = slots.take()
    assert not isinstance(place, str)
    client = Client(address="192.0.2.1", listener=parts.config.name, protocol="SMTP")
    session = SmtpSession(parts, _Owner(), client, place)
    wire = Wire(session)
    session.connection_made(wire)
    for piece in pieces:
        feed(session, piece)
        for _ in range(turns):
            await asyncio.sleep(0)
        # Its task is at work then; otherwise it waits for octets, however many are there.
        while not wire.may_send.is_set() and session._waiter is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    session.eof_received()
    async with asyncio.timeout(5):
        await wire.closed
    assert not len(slots)
    return wire.said
