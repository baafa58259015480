"""Typed values of conditions: numbers, dates, addresses and the like, read from text.

Each reader returns ``None`` for a text that it cannot read. In a document that is a problem; in
a request such a value makes no Allow apply, and avoids no Deny.
"""

import base64
import binascii
import ipaddress
import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

_REMEMBERED: Final = 256
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_EPOCH: Final = re.compile(r"(?P<seconds>-?[0-9]{1,12})(?:\.(?P<fraction>[0-9]{1,9}))?")
# The W3C's profile of ISO 8601 (https://www.w3.org/TR/NOTE-datetime); the zone is optional.
_ISO: Final = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?)?"
)
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NETWORK: Final = re.compile(r"(?P<address>[0-9A-Fa-f.:]{2,45})(?:/(?P<length>[0-9]{1,3}))?")
_NANO: Final = 10**9
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2
_IPV4_BITS: Final = 0xFFFF_FFFF

NetworkRange = tuple[int, int, int]
"""IP version, first address and mask."""


@lru_cache(_REMEMBERED)
def read_number(text: str) -> Decimal | None:
    """An integer or decimal number."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


@lru_cache(_REMEMBERED)
def read_instant(text: str) -> int | None:
    """A date or epoch seconds, as nanoseconds since 1970; without a zone it is UTC.

    A whole number is always epoch seconds, never a year.
    """
    epoch = _EPOCH.fullmatch(text)
    if epoch is not None:
        fraction = _nanoseconds(epoch["fraction"])
        return int(epoch["seconds"]) * _NANO + (-fraction if text[0] == "-" else fraction)
    iso = _ISO.fullmatch(text)
    if iso is None:
        return None
    offset = _offset_s(iso["zone"])
    numbers = [int(iso[name] or at_least) for name, at_least in _ISO_PARTS]
    try:
        moment = datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    if offset is None:
        return None
    since = moment - _ZERO
    seconds = since.days * 86400 + since.seconds - offset
    return seconds * _NANO + _nanoseconds(iso["fraction"])


_ISO_PARTS: Final = (
    ("year", 1), ("month", 1), ("day", 1), ("hour", 0), ("minute", 0), ("second", 0),
)  # fmt: skip


def _nanoseconds(fraction: str | None) -> int:
    return int((fraction or "0").ljust(9, "0"))


def _offset_s(zone: str | None) -> int | None:
    if zone is None or zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        return None
    seconds = hours * 3600 + minutes * 60
    return -seconds if zone[0] == "-" else seconds


def read_bool(text: str) -> bool | None:
    """``true`` or ``false``, in any letter case."""
    return {"true": True, "false": False}.get(text.lower())


@lru_cache(_REMEMBERED)
def read_binary(text: str) -> bytes | None:
    """Octets from base64 (RFC 4648 §4)."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None


@lru_cache(_REMEMBERED)
def read_network(text: str) -> NetworkRange | None:
    """A network in CIDR notation, or a single address (RFC 4632 §3.1, RFC 4291 §2.3)."""
    match = _NETWORK.fullmatch(text)
    if match is None:
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    return as_network(network)


def as_network(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> NetworkRange:
    """The network for comparisons; an IPv4-mapped IPv6 network becomes an IPv4 network.

    Addresses are read in the same way (:func:`read_address`).
    """
    first, mask = int(network.network_address), int(network.netmask)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        return 4, first & _IPV4_BITS, mask & _IPV4_BITS
    return network.version, first, mask


@lru_cache(_REMEMBERED)
def read_address(text: str) -> tuple[int, int] | None:
    """A client's address; an IPv4-mapped IPv6 address becomes IPv4 (RFC 4291 §2.5.5.2)."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


def in_network(address: tuple[int, int], network: NetworkRange) -> bool:
    """True if the network contains the address; both must be of the same IP version."""
    return address[0] == network[0] and address[1] & network[2] == network[1]
