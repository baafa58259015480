"""Values that are made of an object once, for as long as it is the same object.

The messages of a sender share their client, their authors and the decision on them. To hash or
to compare such objects costs as much as to use them; whether it is the same object costs
nothing. An object is kept with what was made of it, so no other one can have its identity.
"""

from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
V = TypeVar("V")

_MAX_KEPT: Final = 512


def made_once(make: Callable[[T], V]) -> Callable[[T], V]:
    """A function that makes it of an object that cannot change, and keeps the last few."""
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
