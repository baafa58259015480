"""Records to publish in the DNS, in the form of a zone file."""

import re
from dataclasses import dataclass
from typing import ClassVar, Final

_TXT_OCTETS: Final = 255  # RFC 1035 §3.3
_QUOTED: Final = re.compile(r'["\\]')


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A TXT record to publish; its text is a line for a zone file (RFC 1035 §5.1)."""

    kind: ClassVar[str] = "TXT"
    name: str
    value: str

    @property
    def strings(self) -> tuple[str, ...]:
        """The value in pieces, each of which fits a character-string of the DNS."""
        starts = range(0, len(self.value) or 1, _TXT_OCTETS)
        return tuple(self.value[at : at + _TXT_OCTETS] for at in starts)

    def __str__(self) -> str:
        quoted = (_QUOTED.sub(r"\\\g<0>", piece) for piece in self.strings)
        return f"{self.name}. IN TXT ( " + " ".join(f'"{piece}"' for piece in quoted) + " )"


@dataclass(frozen=True, slots=True)
class MxRecord:
    """An MX record to publish; its text is a line for a zone file."""

    kind: ClassVar[str] = "MX"
    name: str
    host: str
    preference: int = 10

    @property
    def value(self) -> str:
        """The data of the record."""
        return f"{self.preference} {self.host}."

    def __str__(self) -> str:
        return f"{self.name}. IN MX {self.value}"
