"""Groups of upstreams, and the order in which a message tries those of a group."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from msgspec import Struct

_PRIORITY = attrgetter("priority")


class GroupMember(Struct, frozen=True, gc=False):
    """An upstream in a group.

    Those of the lowest ``priority`` are tried first, as with MX and SRV records. Among equals
    each gets a part of the messages by its ``weight``.
    """

    upstream: str
    priority: int = 10
    weight: int = 1


def by_priority(members: Sequence[GroupMember], chance: float) -> list[list[GroupMember]]:
    """The members in the order in which to try them, those of one priority together.

    ``chance`` is a random number of at least 0 and less than 1. Among equals each is the first
    with the probability of its weight, and so is the next among the others (as in RFC 2782).
    """
    ranked = sorted(members, key=_PRIORITY)
    return [list(_drawn(list(equals), chance)) for _, equals in groupby(ranked, key=_PRIORITY)]


def _drawn(members: list[GroupMember], chance: float) -> Iterator[GroupMember]:
    """The members as they are drawn, one after the other.

    What the number says beyond one draw is as random as the number was, and serves the next.
    """
    while len(members) > 1:
        at = chance * sum(member.weight for member in members)
        index = 0
        while index < len(members) - 1 and at >= members[index].weight:
            at -= members[index].weight
            index += 1
        drawn = members.pop(index)
        chance = min(at / drawn.weight, _ALMOST_1)
        yield drawn
    yield from members


_ALMOST_1 = 1 - 2**-53
