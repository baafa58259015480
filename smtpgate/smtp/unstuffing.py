"""Dots that clients add at the beginnings of lines, taken off again (RFC 5321 §4.5.2)."""

import re
from collections.abc import Iterator
from typing import Final

from smtpgate.core.message.dots import replace_dots
from smtpgate.core.message.headers import normalize_line_ends

# A dot at the beginning of a line that has more than the dot.
_STUFFED_DOT: Final = re.compile(rb"(?:(?<=\r\n)|\A)\.(?!\r\n)")
_PIECE_OCTETS: Final = 64 * 1024


def unstuffed(message: bytes, *, normalize_bare_lf: bool = False) -> bytes:
    """Take off the dots that the client added.

    With ``normalize_bare_lf`` line ends are made CRLF first, because a client that ends lines
    with LF has stuffed the dots behind them. A line that is a lone dot then stays one: it did
    not end the data, and there was nothing to stuff. That takes long, and is done in pieces
    between which other threads run.
    """
    if normalize_bare_lf and len(message) > _PIECE_OCTETS:
        unstuffing = Unstuffing(normalize_bare_lf=True)
        return b"".join([*unstuffing.feed(message), unstuffing.rest()])
    return _unstuffed(message, normalize_bare_lf)


class Unstuffing:
    """Takes the dots off a message that arrives in parts, which are cut anywhere.

    Of one that is not stuffed, as chunks are not, it only makes the line ends whole, if asked.

    The pieces that come out end where lines end. Only a line that is longer than a piece is
    cut; CR and LF of one line end never are.
    """

    def __init__(
        self,
        *,
        normalize_bare_lf: bool,
        piece_octets: int = _PIECE_OCTETS,
        is_stuffed: bool = True,
    ) -> None:
        self._normalize_bare_lf = normalize_bare_lf
        self._is_stuffed = is_stuffed
        self._piece_octets = piece_octets
        self._rest = b""
        self._is_at_line_start = True

    def feed(self, wire: bytes | bytearray) -> Iterator[bytes]:
        """Take in the next octets; yields the pieces that are complete then."""
        octets = self._rest + wire if self._rest else wire
        view = memoryview(octets)
        place, size = 0, self._piece_octets
        while place < len(octets):
            stop = octets.rfind(b"\n", place, place + size) + 1
            if not stop:
                if len(octets) - place <= size:
                    break  # the line goes on
                stop = place + size - octets.endswith(b"\r", place, place + size)
            yield self._unstuffed(bytes(view[place:stop]))
            place = stop
        self._rest = bytes(view[place:])

    def rest(self) -> bytes:
        """The piece that is left at the end, if the last line has not ended."""
        return self._unstuffed(self._rest)

    def _unstuffed(self, piece: bytes) -> bytes:
        if not self._is_stuffed:
            return normalize_line_ends(piece) if self._normalize_bare_lf else piece
        is_at_line_start = self._is_at_line_start
        line_end = b"\n" if self._normalize_bare_lf else b"\r\n"
        self._is_at_line_start = piece.endswith(line_end)
        if is_at_line_start:
            return _unstuffed(piece, self._normalize_bare_lf)
        return _unstuffed(b"-" + piece, self._normalize_bare_lf)[1:]


def _unstuffed(octets: bytes, normalize_bare_lf: bool) -> bytes:
    """The octets, which begin with a line, less the dots."""
    if normalize_bare_lf:
        octets = normalize_line_ends(octets)
        if b"\n.\r\n" in octets or octets.startswith(b".\r\n"):
            return _STUFFED_DOT.sub(b"", octets)
    if octets.startswith(b"."):
        octets = octets[1:]
    return replace_dots(octets, b"")
