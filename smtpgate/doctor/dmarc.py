"""DMARC records, found by the walk up the names and read strictly (RFC 7489 §6.3, §6.6.3).

The walk stops at the first record, and never asks for a name of a single label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smtpgate.ports import Resolver

_MAX_LABELS: Final = 8
_POLICIES: Final = frozenset({"none", "quarantine", "reject"})


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """A record and the domain that has it; ``problem`` is the reason why it counts as none."""

    domain: str
    policy: str = ""
    is_strict: bool = False
    problem: str = ""


async def dmarc_of(domain: str, resolver: Resolver) -> DmarcRecord | None:
    """The record that receivers apply to mail from the domain. Raises ResolverError."""
    labels = domain.split(".")[-_MAX_LABELS:]
    names = [domain] + [".".join(labels[at:]) for at in range(1, len(labels) - 1)]
    for name in dict.fromkeys(names):
        record = _read(name, await resolver.txt(f"_dmarc.{name}"))
        if record is not None:
            return record
    return None


def _read(domain: str, published: Sequence[bytes]) -> DmarcRecord | None:
    found = [one for one in published if one.split(b";")[0].replace(b" ", b"") == b"v=DMARC1"]
    if not found:
        return None
    if len(found) > 1:
        return DmarcRecord(domain, problem="there are several records, which count as none")
    tags: dict[str, str] = {}
    for spec in found[0].decode("ascii", "replace").split(";"):
        name, equals, value = (part.strip() for part in spec.partition("="))
        if equals:
            tags.setdefault(name.lower(), value)
    policy = tags.get("p", "").lower()
    if policy not in _POLICIES:
        return DmarcRecord(domain, problem="its tag p is not none, quarantine or reject")
    return DmarcRecord(domain, policy, tags.get("adkim", "r").lower() == "s")
