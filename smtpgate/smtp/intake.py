"""Taking a message in: finding the final dot in bulk, and bounding what is held at once."""

import re
from typing import Final

from smtpgate.core.headers import normalize_line_ends

__all__ = ["Intake", "MessageIntake", "unstuffed"]

# A dot at the beginning of a line that has more than the dot (RFC 5321 §4.5.2).
_STUFFED_DOT: Final = re.compile(rb"(?:(?<=\r\n)|\A)\.(?!\r\n)")
_FINAL_DOT: Final = b"\r\n.\r\n"  # RFC 5321 §4.1.1.4: nothing less ends the data


class Intake:
    """How many octets of messages all sessions hold together, against a bound."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, octets: int) -> bool:
        """Hold so many more, unless that passes the bound; the only message always fits."""
        if self.held and self.held + octets > self.limit:
            return False
        self.held += octets
        return True

    def give_back(self, octets: int) -> None:
        """Hold so many fewer."""
        self.held -= octets


class MessageIntake:
    """Watches one growing buffer for the final dot.

    A message that is too long, or for which there is no room now, is still read to its end, but
    thrown away as it comes, so that the session can go on. ``refusal`` then names the reply.
    """

    def __init__(self, intake: Intake, max_octets: int) -> None:
        self.refusal = ""
        self._intake = intake
        self._max_octets = max_octets
        self._held = 0
        self._start = 0

    def look(self, buffer: bytearray) -> int | None:
        """The message's size, once its final dot is in the buffer."""
        end = self._end(buffer)
        self._hold(len(buffer) if end is None else end)
        if end is None:
            if self.refusal:
                del buffer[:-4]
            self._start = max(0, len(buffer) - 4)
        return end

    def _end(self, buffer: bytearray) -> int | None:
        # The final dot of an empty message follows the CRLF of the DATA command.
        if not self.refusal and buffer.startswith(b".\r\n"):
            return 0
        dot = buffer.find(_FINAL_DOT, self._start)
        return None if dot < 0 else dot + 2

    def _hold(self, octets: int) -> None:
        if self.refusal:
            return
        if octets > self._max_octets:
            self.refusal = "too-long"
        elif octets <= self._held or self._intake.take(octets - self._held):
            if octets < self._held:  # commands were pipelined behind the final dot
                self._intake.give_back(self._held - octets)
            self._held = octets
        else:
            self.refusal = "overloaded"

    def release(self) -> None:
        """Give back what is held; the message is done with."""
        self._intake.give_back(self._held)
        self._held = 0


def unstuffed(message: bytes, *, normalize_bare_lf: bool = False) -> bytes:
    """Take off the dots that the client added (RFC 5321 §4.5.2).

    With ``normalize_bare_lf`` line ends are made CRLF first, because a client that ends lines
    with LF has stuffed the dots behind them. A line that is a lone dot then stays one: it did
    not end the data, and there was nothing to stuff.
    """
    if normalize_bare_lf:
        message = normalize_line_ends(message)
        if b"\n.\r\n" in message or message.startswith(b".\r\n"):
            return _STUFFED_DOT.sub(b"", message)
    if message.startswith(b"."):
        message = message[1:]
    return message.replace(b"\r\n.", b"\r\n") if b"\r\n." in message else message
