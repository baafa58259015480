"""Lines that begin with a dot, found fast: the end of data, and dots that SMTP doubles.

``bytes.find`` looks for one octet thirty times as fast as for several. Text has a dot a line,
but an attachment in base64 has none, and it is most of a large message. So both functions look
for a dot, and at the text itself only in the octets behind the dot.
"""

from typing import Final

_WINDOW_OCTETS: Final = 2048


def find_with_dot(
    octets: bytes | bytearray, text: bytes, start: int = 0, *, window: int = _WINDOW_OCTETS
) -> int:
    """As ``octets.find(text, start)``; the text has one dot or more."""
    before, place = text.index(b"."), start
    while (dot := octets.find(b".", place)) >= 0:
        place = dot + window
        found = octets.find(text, max(start, dot - before), place + len(text))
        if found >= 0:
            return found
    return -1


def replace_dots(octets: bytes, by: bytes, *, window: int = _WINDOW_OCTETS) -> bytes:
    """The octets with the dot at the beginning of each line but the first replaced."""
    parts: list[bytes] = []
    place = 0
    while (dot := octets.find(b".", place)) >= 0:
        start, stop = max(place, dot - 2), octets.find(b"\r", dot + window)
        if stop < 0:  # a CR begins what is replaced, so nothing is cut before one
            stop = len(octets)
        parts += octets[place:start], octets[start:stop].replace(b"\r\n.", b"\r\n" + by)
        place = stop
    return b"".join([*parts, octets[place:]]) if parts else octets
