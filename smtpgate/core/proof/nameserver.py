"""Name servers in a configuration."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_PORT: Final = 53
_MAX_PORT: Final = 65535
_WITH_PORT: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15})):(?P<port>[0-9]{1,5})"
)


class NameserverError(ValueError):
    """A text that is not the address of a name server."""


@dataclass(frozen=True, slots=True)
class Nameserver:
    """The address and port of a recursive name server."""

    address: IPv4Address | IPv6Address
    port: int = _PORT

    def __str__(self) -> str:
        host = str(self.address)
        if self.port == _PORT:
            return host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def parse_nameserver(text: str) -> Nameserver:
    """Read an IP address, or one with a port: ``192.0.2.1:5353``, ``[2001:db8::1]:5353``.

    Raises NameserverError.
    """
    found = _WITH_PORT.fullmatch(text)
    address, port = text, _PORT
    if found is not None:
        address, port = found["six"] or found["four"], int(found["port"])
    try:
        server = Nameserver(ip_address(address), port)
    except ValueError:
        raise NameserverError(
            f"{text!r} is not the address of a name server, such as 192.0.2.1 or 192.0.2.1:53"
        ) from None
    if not 0 < port <= _MAX_PORT:
        raise NameserverError(f"{text!r} has a port that is not 1 to {_MAX_PORT}")
    return server
