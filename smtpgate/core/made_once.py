"""Values that are made of an object once, for as long as it is the same object.

The messages of a sender share their client, their authors and the decision on them. To hash or
to compare such objects costs as much as to use them; to see that it is the same object costs
nothing. An object is kept with the value, so no other object can have its identity.
"""

from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
V = TypeVar("V")

_MAX_KEPT: Final = 512


def made_once(make: Callable[[T], V]) -> Callable[[T], V]:
    """Keep what ``make`` returns, for each object; its objects must not change."""
    kept: dict[int, tuple[T, V]] = {}

    def made(one: T) -> V:
        known = kept.get(id(one))
        if known is not None:
            return known[1]
        value = make(one)
        if len(kept) >= _MAX_KEPT:
            kept.clear()
        kept[id(one)] = one, value
        return value

    return made
