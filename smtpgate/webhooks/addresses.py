"""The addresses that a webhook may have: those of the public Internet, unless more are allowed.

A subscriber names the host, so without this the gate could be used to reach the network that
it stands in. The tables are IANA's registries of special-purpose addresses; they stand here
because Python's own differ between its versions.
https://www.iana.org/assignments/iana-ipv4-special-registry
https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_SPECIAL_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared, behind a provider's NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local; metadata of clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
# Only 2000::/3 has public addresses, and these parts of it have none. 6to4 and Teredo carry an
# IPv4 address, and nothing that is reachable needs them any more.
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # IETF protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_LOW_32_BITS: Final = 0xFFFF_FFFF


def is_public(address: str) -> bool:
    """True if an address is one of the public Internet; what is no address is not."""
    try:
        known = ip_address(address)
    except ValueError:
        return False
    if isinstance(known, IPv4Address):
        return _is_public_v4(known)
    if known.scope_id is not None:
        return False
    # An IPv4 address in IPv6 notation is that IPv4 address.
    if known.ipv4_mapped is not None:
        return _is_public_v4(known.ipv4_mapped)
    if known in _NAT64:
        return _is_public_v4(IPv4Address(int(known) & _LOW_32_BITS))
    return _is_public_v6(known)


def can_be_called(address: str) -> bool:
    """True if an address is one of a host, public or not."""
    try:
        known = ip_address(address)
    except ValueError:
        return False
    if isinstance(known, IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return not (known.is_unspecified or known.is_multicast)


def _is_public_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _SPECIAL_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    return address in _PUBLIC_V6 and not any(address in network for network in _SPECIAL_V6)
