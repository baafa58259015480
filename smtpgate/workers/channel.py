"""Frames between parent and worker, over a Unix socket: a length, then that many octets.

What is sent in one turn of the event loop leaves in one write, and what one read has is passed
on together.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

_LENGTH: Final = struct.Struct("!I")
# Far beyond the largest frame, which has the recipients and the header of one message.
_MAX_FRAME_OCTETS: Final = 64 * 1024 * 1024


class FrameTooLongError(Exception):
    """The other end sends octets that are no frame."""


class Channel(asyncio.Protocol):
    """One end of a socket pair.

    ``on_frames`` is called with the frames that came together, and ``on_end`` once, when the
    other end is closed.
    """

    def __init__(
        self, on_frames: Callable[[Sequence[bytes]], None], on_end: Callable[[], None]
    ) -> None:
        self._on_frames = on_frames
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._unsent: list[bytes] = []
        self._closed = asyncio.Event()
        self._is_listening = False
        self._is_over = False

    @classmethod
    async def open(
        cls,
        connection: socket.socket,
        on_frames: Callable[[Sequence[bytes]], None],
        on_end: Callable[[], None],
    ) -> "Channel":
        """The channel over that socket, which it owns from now on; it passes on nothing yet."""
        channel = cls(on_frames, on_end)
        await channel.attach(connection)
        return channel

    async def attach(self, connection: socket.socket) -> None:
        """Use that socket; what was sent before leaves then."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=connection)

    def listen(self) -> None:
        """Pass on frames from now on."""
        self._is_listening = True
        if self._transport is not None:
            self._transport.resume_reading()
        self.data_received(b"")

    @property
    def unsent_octets(self) -> int:
        """The octets that the other end has not taken yet."""
        waiting = sum(map(len, self._unsent))
        if self._transport is None:
            return waiting
        return waiting + self._transport.get_write_buffer_size()

    @property
    def is_closed(self) -> bool:
        """True once an end is closed: nothing more is sent."""
        return self._is_over

    def send(self, frame: bytes) -> None:
        """Send a frame, with all others of this turn; to a closed end nothing is sent."""
        if self._is_over:
            return
        if not self._unsent and self._transport is not None:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent += (_LENGTH.pack(len(frame)), frame)

    def flush(self) -> None:
        """Write what was sent."""
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
            self._unsent = []

    async def end(self, timeout_s: float = 5) -> None:
        """Close this end, once everything is written, or after a while."""
        self.flush()
        if self._transport is None:
            return
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), timeout_s)
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The socket is in the event loop."""
        self._transport = transport
        transport.pause_reading()
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Pass on the frames that are complete."""
        if not self._is_listening:  # uvloop begins to read also where reading is paused
            self._received += data
            return
        received: bytes | bytearray = data
        if self._received:
            self._received += data
            received = self._received
        octets, start, length = len(received), 0, 0
        frames: list[bytes] = []
        while octets - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, start)
            end = start + _LENGTH.size + length
            if octets < end or length > _MAX_FRAME_OCTETS:
                break
            frames.append(bytes(received[start + _LENGTH.size : end]))
            start = end
        if received is data:
            self._received += data[start:]
        else:
            del self._received[:start]
        if frames:
            self._on_frames(frames)
        if length > _MAX_FRAME_OCTETS:
            raise FrameTooLongError(length)  # the event loop logs it, and closes this end

    def connection_lost(self, exc: Exception | None) -> None:
        """An end is closed."""
        self._transport, self._is_over = None, True
        self._unsent = []
        self._closed.set()
        self._on_end()
