"""A large message while it arrives: its body goes to a file, and is read on the way.

The event loop finds the final dot and passes the octets on. All other work runs in threads, in
pieces of 64 KiB: to hash one and to write it lets other threads run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smtpgate.core.message.body import BodyFile, StoredMessage
from smtpgate.core.scan import MessageScan
from smtpgate.smtp.intake import MessageIntake, unstuffed
from smtpgate.spool import Spool, SpoolFile

_PIECE_OCTETS: Final = 64 * 1024


class WireScan:
    """Reads a message as SMTP transmits it, in parts that are cut anywhere.

    It is read in pieces that end where lines end. Only a line that is longer than a piece is
    cut; CR and LF of one line end never are.
    """

    def __init__(self, *, normalize_bare_lf: bool, piece_octets: int = _PIECE_OCTETS) -> None:
        self._normalize_bare_lf = normalize_bare_lf
        self._piece_octets = piece_octets
        self._rest = b""
        self._is_at_line_start = True
        self._scan = MessageScan()

    def feed(self, wire: bytes | bytearray) -> Iterator[bytes]:
        """Read the next octets; yields those of the body."""
        for piece in self._cut(wire):
            body = self._scan.feed(self._unstuffed(piece))
            if body:
                yield body

    def _cut(self, wire: bytes | bytearray) -> Iterator[bytes]:
        octets = self._rest + wire if self._rest else wire
        view = memoryview(octets)
        place, size = 0, self._piece_octets
        while place < len(octets):
            stop = octets.rfind(b"\n", place, place + size) + 1
            if not stop:
                if len(octets) - place <= size:
                    break  # the line goes on
                stop = place + size - octets.endswith(b"\r", place, place + size)
            yield bytes(view[place:stop])
            place = stop
        self._rest = bytes(view[place:])

    def _unstuffed(self, piece: bytes) -> bytes:
        is_at_line_start = self._is_at_line_start
        line_end = b"\n" if self._normalize_bare_lf else b"\r\n"
        self._is_at_line_start = piece.endswith(line_end)
        if is_at_line_start:
            return unstuffed(piece, normalize_bare_lf=self._normalize_bare_lf)
        return unstuffed(b"-" + piece, normalize_bare_lf=self._normalize_bare_lf)[1:]

    def conclude(self, file: BodyFile) -> StoredMessage:
        """The message; all of it was fed, its last line end too, and the file has its body."""
        return self._scan.conclude(file)


class Arrival:
    """A message that arrives, and goes to a file. ``close`` it, whatever happens."""

    def __init__(self, spool: Spool, *, normalize_bare_lf: bool) -> None:
        self._spool = spool
        self._normalize_bare_lf = normalize_bare_lf
        self._stored: tuple[SpoolFile, WireScan] | None = None

    async def add(self, wire: bytearray) -> None:
        """Take in the next octets, as SMTP transmits them. Raises SpoolError."""
        if self._stored is None:
            scan = WireScan(normalize_bare_lf=self._normalize_bare_lf)
            self._stored = self._spool.new_file(), scan
        await self._spool.run(_store, *self._stored, wire)

    def conclude(self) -> StoredMessage:
        """The message, when all of it was added."""
        if self._stored is None:
            raise AssertionError("nothing has arrived")
        self._spool.note_stored()
        file, scan = self._stored
        return scan.conclude(file)

    def close(self) -> None:
        """Close the file, if there is one; the message cannot be read any more."""
        if self._stored is not None:
            self._spool.drop(self._stored[0])
            self._stored = None


@dataclass(slots=True)
class IncomingMessage:
    """A message that comes in: its room, its file if it is large, and the end of its time."""

    intake: MessageIntake
    arrival: Arrival
    deadline: float

    def close(self) -> None:
        """Give back what it takes; the message cannot be read any more."""
        self.arrival.close()
        self.intake.release()


def _store(file: SpoolFile, scan: WireScan, wire: bytearray) -> None:
    for piece in scan.feed(wire):
        file.write(piece)
