"""The start of authority of a domain's zone: who keeps its records (RFC 1035 §3.3.13)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Soa:
    """The primary name server, the mailbox of its keeper, and the serial number of the zone.

    ``admin`` is a name of the DNS, as the record has it.
    """

    primary: str
    admin: str
    serial: int

    def __str__(self) -> str:
        return f"{self.primary} {self.admin} {self.serial}"


def read_soa(text: str) -> Soa | None:
    """The record of a text that :class:`Soa` made; ``None`` of an empty one."""
    primary, _, rest = text.partition(" ")
    admin, _, serial = rest.partition(" ")
    return Soa(primary, admin, int(serial)) if serial.isdigit() else None
