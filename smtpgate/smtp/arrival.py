"""A large message while it arrives: its body goes to a file, and is read on the way.

The event loop finds the final dot and passes the octets on. All other work runs in threads, in
pieces of 64 KiB: to hash one and to write it lets other threads run.
"""

from dataclasses import dataclass

from msgspec import Struct

from smtpgate.core.message.body import StoredMessage
from smtpgate.core.scan import MessageScan
from smtpgate.smtp.intake import MessageIntake
from smtpgate.smtp.unstuffing import Unstuffing
from smtpgate.spool import Spool, SpoolFile


class Arrival:
    """A message that arrives; a large one goes to a file. ``close`` it, whatever happens."""

    __slots__ = ("_is_stuffed", "_normalize_bare_lf", "_spool", "_stored")

    def __init__(
        self, spool: Spool, *, normalize_bare_lf: bool, is_stuffed: bool = True
    ) -> None:
        """``is_stuffed``: the client doubles dots, as it does behind DATA."""
        self._spool = spool
        self._normalize_bare_lf = normalize_bare_lf
        self._is_stuffed = is_stuffed
        self._stored: tuple[SpoolFile, Unstuffing, MessageScan] | None = None

    async def add(self, wire: bytearray) -> None:
        """Take in the next octets, as SMTP transmits them. Raises SpoolError."""
        if self._stored is None:
            unstuffing = Unstuffing(
                normalize_bare_lf=self._normalize_bare_lf, is_stuffed=self._is_stuffed
            )
            self._stored = self._spool.new_file(), unstuffing, MessageScan()
        await self._spool.run(_store, *self._stored, wire)

    async def end_line(self) -> None:
        """Take in what was added behind the last line end. Raises SpoolError."""
        if self._stored is not None:
            await self._spool.run(_store_rest, *self._stored)

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
    """A message that comes in: its room, its file if it is large, and the end of its time.

    ``kept`` has the octets of the chunks that have come and are in no file; it is ``None`` when
    the message comes in one piece, behind DATA.
    """

    intake: MessageIntake
    arrival: Arrival
    deadline: float
    kept: bytearray | None = None

    def close(self) -> None:
        """Give back what it takes; the message cannot be read any more."""
        self.arrival.close()
        self.intake.release()


@dataclass(slots=True)
class Chunk:
    """The octets that BDAT announced (RFC 3030 §2): how many are still to come, and until when.

    Those of one with a ``refusal``, why it may not come now, are thrown away.
    """

    left: int
    is_last: bool
    deadline: float
    refusal: str = ""


def _store(file: SpoolFile, unstuffing: Unstuffing, scan: MessageScan, wire: bytearray) -> None:
    for piece in unstuffing.feed(wire):
        _write(file, scan, piece)


def _store_rest(file: SpoolFile, unstuffing: Unstuffing, scan: MessageScan) -> None:
    _write(file, scan, unstuffing.rest())


def _write(file: SpoolFile, scan: MessageScan, piece: bytes) -> None:
    body = scan.feed(piece)
    if body:
        file.write(body)
