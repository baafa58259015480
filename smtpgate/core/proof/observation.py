"""What was seen in the DNS: the record that was looked for, something else, or no answer.

The three must not be mixed up: an identity may be lost because its record is gone, and never
because a resolver was out of order.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

DnsMethod = Literal["txt", "dkim"]

_MAX_EXCERPT: Final = 60


@dataclass(frozen=True, slots=True)
class Found:
    """The record is there: the TXT record with the token, or the DKIM record with the key."""

    method: DnsMethod


@dataclass(frozen=True, slots=True)
class Absent:
    """The DNS answered, and the record is not there; ``seen`` says what is."""

    seen: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody knows: no answer came, or one that says nothing."""

    why: str


Observation = Found | Absent | Unanswered


def combined(observations: Iterable[Observation]) -> Observation:
    """What several places say together, each of which would do.

    One record found is enough. It is absent only when every place was answered for.
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
        raise ValueError("no place was looked at")
    return unanswered or Absent("; ".join(dict.fromkeys(absent)))


def excerpt(octets: bytes) -> str:
    """Octets from a stranger's record as they can stand in a message: quoted and shortened."""
    cut = "..." if len(octets) > _MAX_EXCERPT else ""
    return ascii(octets[:_MAX_EXCERPT].decode("latin-1") + cut)
