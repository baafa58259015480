"""Percent-encoding of paths and queries (RFC 3986 §2.1), as signatures need it: on octets."""

import re
from typing import Final

_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_ENCODED: Final = tuple(
    bytes([octet]) if octet in _UNRESERVED else b"%%%02X" % octet for octet in range(256)
)
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


def percent_encoded(octets: bytes) -> bytes:
    """The octets with all but the unreserved characters encoded."""
    return b"".join([_ENCODED[octet] for octet in octets])


def percent_decoded(octets: bytes) -> bytes:
    """The octets with their escapes decoded; a percent sign that begins none stays."""
    if b"%" not in octets:
        return octets
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), octets)


def query_pairs(raw_query: bytes) -> list[tuple[bytes, bytes]]:
    """The names and values of a query, decoded, in order; a plus sign is a plus sign."""
    found: list[tuple[bytes, bytes]] = []
    for part in raw_query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            found.append((percent_decoded(name), percent_decoded(value)))
    return found
