"""An observation in the DNS: the expected record, its absence, or no answer.

The three must not be confused: an identity may fail because its record is gone, but never
because a resolver was not available.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

DnsMethod = Literal["txt", "dkim", "mx"]

_MAX_EXCERPT: Final = 60


@dataclass(frozen=True, slots=True)
class Found:
    """The record exists: with the token, the key of DKIM, or the host of the MX."""

    method: DnsMethod


@dataclass(frozen=True, slots=True)
class Absent:
    """The DNS answered, and the record does not exist; ``seen`` names what is there instead."""

    seen: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing is known: there was no answer, or one without meaning."""

    why: str


Observation = Found | Absent | Unanswered


def combined(observations: Iterable[Observation]) -> Observation:
    """The observation at several names together, each of which is sufficient.

    One record that was found is enough. It is absent only if there was an answer for each name.
    """
    absent: list[str] = []
    unanswered: Unanswered | None = None
    for observation in observations:
        if isinstance(observation, Found):
            return observation
        if isinstance(observation, Absent):
            absent.append(observation.seen)
        else:
            unanswered = unanswered or observation
    if unanswered is None and not absent:
        raise ValueError("no name was queried")
    return unanswered or Absent("; ".join(dict.fromkeys(absent)))


def excerpt(octets: bytes) -> str:
    """Octets of a stranger's record, quoted and shortened for a message."""
    cut = "..." if len(octets) > _MAX_EXCERPT else ""
    return ascii(octets[:_MAX_EXCERPT].decode("latin-1") + cut)
