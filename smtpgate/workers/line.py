"""The line of a worker: packets to a thread of its parent, and back.

A channel connects the event loops of both. A line is read by the thread that uses its packets,
so that they wake up no other. It is a pair of sockets that keep the bounds of packets. It takes
packets of a limited size, and none while the other end does not read; what it does not take
goes over the channel.
"""

import errno
import socket
from typing import Final

# A request has one or two KiB, unless its message has very many recipients.
_MAX_PACKET_OCTETS: Final = 128 * 1024
_NO_ROOM: Final = {errno.EAGAIN, errno.EMSGSIZE, errno.ENOBUFS}


class PacketLine:
    """One end of a line; nothing blocks."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._buffer = memoryview(bytearray(_MAX_PACKET_OCTETS))

    @staticmethod
    def new_pair() -> tuple[socket.socket, socket.socket]:
        """The sockets of a new line."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        """The descriptor; it is readable when a packet or the end has come."""
        return self._connection.fileno()

    def send(self, packet: bytes) -> bool:
        """Send a packet that is not empty; false if there is no room for it.

        Raises ConnectionError when an end is closed.
        """
        if len(packet) > _MAX_PACKET_OCTETS:
            return False
        try:
            _ = self._connection.send(packet)
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise ConnectionError(str(error)) from None
        return True

    def receive(self) -> memoryview | None:
        """The next packet, until the next call; an empty one if none has come.

        ``None`` once the other end is closed, and all that it sent was received.
        """
        while True:
            try:
                octets = self._connection.recv_into(self._buffer)
            except BlockingIOError:
                return self._buffer[:0]
            except ConnectionResetError:
                continue  # it ended before it had read everything; what it sent is still there
            return self._buffer[:octets] if octets else None

    def close(self) -> None:
        """Close this end."""
        self._connection.close()
