"""Percent-encoding of paths and queries (RFC 3986 §2.1), as signatures need it: on octets."""

import re
from typing import Final

_RESERVED: Final = re.compile(rb"[^A-Za-z0-9._~-]")
_DIGITS: Final = "0123456789ABCDEFabcdef"
_DECODED: Final = {
    (high + low).encode(): bytes([int(high + low, 16)]) for high in _DIGITS for low in _DIGITS
}


def percent_encoded(octets: bytes) -> bytes:
    """The octets with all but the unreserved characters encoded."""
    return _RESERVED.sub(lambda found: b"%%%02X" % found[0][0], octets)


def percent_decoded(octets: bytes) -> bytes:
    """The octets with their escapes decoded; a percent sign that begins none stays."""
    if b"%" not in octets:
        return octets
    first, *others = octets.split(b"%")
    pieces = [first]
    for other in others:
        octet = _DECODED.get(other[:2])
        pieces += (b"%", other) if octet is None else (octet, other[2:])
    return b"".join(pieces)


def query_pairs(raw_query: bytes) -> list[tuple[bytes, bytes]]:
    """The names and values of a query, decoded, in order; a plus sign is a plus sign."""
    found: list[tuple[bytes, bytes]] = []
    for part in raw_query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            found.append((percent_decoded(name), percent_decoded(value)))
    return found
