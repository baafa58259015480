"""A large message while it arrives: its body goes to a file, and is read on the way.

The event loop finds the final dot and passes the octets on. All other work runs in threads, in
pieces of 64 KiB: to hash one and to write it lets other threads run.
"""

from msgspec import Struct

from smtpgate.core.message.body import StoredMessage
from smtpgate.core.scan import MessageScan
from smtpgate.smtp.intake import MessageIntake
from smtpgate.smtp.unstuffing import Unstuffing
from smtpgate.spool import Spool, SpoolFile


class Arrival:
    """A message that arrives, and goes to a file. ``close`` it, whatever happens."""

    def __init__(self, spool: Spool, *, normalize_bare_lf: bool) -> None:
        self._spool = spool
        self._normalize_bare_lf = normalize_bare_lf
        self._stored: tuple[SpoolFile, Unstuffing, MessageScan] | None = None

    async def add(self, wire: bytearray) -> None:
        """Take in the next octets, as SMTP transmits them. Raises SpoolError."""
        if self._stored is None:
            unstuffing = Unstuffing(normalize_bare_lf=self._normalize_bare_lf)
            self._stored = self._spool.new_file(), unstuffing, MessageScan()
        await self._spool.run(_store, *self._stored, wire)

    def conclude(self) -> StoredMessage:
        """The message, when all of it was added; its last line has ended."""
        if self._stored is None:
            raise AssertionError("nothing has arrived")
        self._spool.note_stored()
        file, _, scan = self._stored
        return scan.conclude(file)

    def close(self) -> None:
        """Close the file, if there is one; the message cannot be read any more."""
        if self._stored is not None:
            self._spool.drop(self._stored[0])
            self._stored = None


class IncomingMessage(Struct, frozen=True, gc=False):
    """A message that comes in: its room, its file if it is large, and the end of its time."""

    intake: MessageIntake
    arrival: Arrival
    deadline: float

    def close(self) -> None:
        """Give back what it takes; the message cannot be read any more."""
        self.arrival.close()
        self.intake.release()


def _store(file: SpoolFile, unstuffing: Unstuffing, scan: MessageScan, wire: bytearray) -> None:
    for piece in unstuffing.feed(wire):
        body = scan.feed(piece)
        if body:
            file.write(body)
