"""Values that are made of an object once, for as long as it is the same object.

The messages of a sender share their client, their authors and the decision on them. To hash or
to compare such objects costs as much as to use them; to see that it is the same object costs
nothing. An object is kept with the value, so no other object can have its identity.
"""

from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
V = TypeVar("V")
Ts = TypeVarTuple("Ts")

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


def made_once_with(make: Callable[[T, *Ts], V]) -> Callable[[T, *Ts], V]:
    """The same of an object and others: for each object, the last others are kept with it."""
    kept: dict[int, tuple[tuple[T, *Ts], V]] = {}

    def made(*objects: *tuple[T, *Ts]) -> V:
        place = id(objects[0])
        known = kept.get(place)
        if known is not None and known[0] == objects:  # the same objects are equal at once
            return known[1]
        value = make(*objects)
        if len(kept) >= _MAX_KEPT:
            kept.clear()
        kept[place] = objects, value
        return value

    return made
