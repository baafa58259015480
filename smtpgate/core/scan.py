"""Reading a message while it arrives: the same facts and refusals as of one in memory."""

from typing import Final

from smtpgate.core.message.body import BodyFile, StoredBody, StoredMessage
from smtpgate.core.message.headers import MAX_BLOCK_OCTETS, LineEnds, first_long_line
from smtpgate.core.signing import BodyHash

# As many octets as readers of a body's beginning look at.
BEGINNING_OCTETS: Final = 64 * 1024


class MessageScan:
    """Takes in a message piece by piece, and keeps no more of it than the header block.

    CR and LF of one line end are in one piece.
    """

    def __init__(self) -> None:
        self._octets = 0
        self._head = bytearray()
        self._is_in_body = False
        self._line_ends = LineEnds()
        self._is_8bit = False
        self._lines = 0  # of the body that have ended
        self._line_octets = 0  # of the line that has not
        self._long_line: int | None = None
        self._beginning = bytearray()
        self._hash = BodyHash()

    def feed(self, piece: bytes) -> bytes:
        """Take in the next octets; returns those of the body."""
        self._octets += len(piece)
        self._line_ends.feed(piece)
        self._is_8bit = self._is_8bit or not piece.isascii()
        if not self._is_in_body:
            piece = self._after_head(piece)
        if piece:
            self._feed_body(piece)
        return piece

    def _after_head(self, piece: bytes) -> bytes:
        """Add to the header block; returns the octets behind it, if it ended."""
        old, self._head = len(self._head), self._head + piece
        end = self._head.find(b"\r\n\r\n", max(0, old - 3), MAX_BLOCK_OCTETS + 4)
        if end >= 0:
            size = end + 4
        elif len(self._head) > MAX_BLOCK_OCTETS + 4:
            size = MAX_BLOCK_OCTETS + 4  # refused when it is read
        else:
            return b""
        self._is_in_body = True
        rest = bytes(self._head[size:])
        del self._head[size:]
        return rest

    def _feed_body(self, piece: bytes) -> None:
        if self._long_line is None:
            self._look_for_long_line(piece)
        if len(self._beginning) < BEGINNING_OCTETS:
            self._beginning += piece[: BEGINNING_OCTETS - len(self._beginning)]
        self._hash.update(piece)

    def _look_for_long_line(self, piece: bytes) -> None:
        octets = b"-" * self._line_octets + piece if self._line_octets else piece
        at = first_long_line(octets)
        if at is not None:
            self._long_line = 1 + self._lines + octets.count(b"\n", 0, at)
        self._lines += octets.count(b"\n")
        self._line_octets = len(octets) - octets.rfind(b"\n") - 1

    def conclude(self, body: BodyFile) -> StoredMessage:
        """The message, whose body the file has."""
        return StoredMessage(
            head=bytes(self._head),
            body=StoredBody(body, bytes(self._beginning), self._hash.value()),
            octets=self._octets,
            problem=self._line_ends.problem,
            is_8bit=self._is_8bit,
            long_line=self._long_line,
        )
