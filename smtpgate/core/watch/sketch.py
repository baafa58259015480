"""Bounded memories of what was seen, and since which day: addresses by hash, networks by name.

A day is a number of days since 1970, in UTC.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar
from zlib import crc32

from msgspec import Struct

Span = tuple[int, int]
"""The first and the last day on which something was seen."""
K = TypeVar("K", int, str)

_OLD_DAYS: Final = 60


def hash_of(text: str) -> int:
    """The hash of an address, without regard to letter case."""
    return crc32(text.lower().encode("utf-8", "surrogatepass"))


class Horizon(Struct, frozen=True, gc=False):
    """The line between what is known and what is new.

    Known is what was first seen on ``day`` or before, but not on a day of an alarm.
    """

    day: int
    alarms: frozenset[int]

    def knows(self, span: Span | None) -> bool:
        """True if it was seen before."""
        return span is not None and span[0] <= self.day and span[0] not in self.alarms


class Sketch(Struct, frozen=True, gc=False, array_like=True):
    """A sample of hashes with their days: each hash whose lowest ``level`` bits are zero.

    While few are known, the sample is all of them. When there are too many, the level rises,
    and the sample is half of what it was. So a hash is in the sample or not, however often it
    is seen, and each one in it stands for ``weight`` of them.
    """

    level: int = 0
    spans: dict[int, Span] = {}

    @property
    def weight(self) -> int:
        """The number that one hash of the sample stands for."""
        return 1 << self.level

    def has_in_sample(self, key: int) -> bool:
        """True if the hash belongs to the sample, known or not."""
        return not key & (self.weight - 1)

    def seen(self, keys: Iterable[int], day: int, capacity: int) -> "Sketch":
        """The sketch once these were seen on that day."""
        mask = self.weight - 1
        spans = _seen(self.spans, [key for key in keys if not key & mask], day)
        return self if spans is self.spans else _fitting(Sketch(self.level, spans), capacity)

    def joined(self, other: "Sketch", capacity: int) -> "Sketch":
        """All that either knows."""
        level = max(self.level, other.level)
        spans = _joined(self.spans, other.spans)
        return _fitting(_at_level(Sketch(0, spans), level), capacity)


def _at_level(sketch: Sketch, level: int) -> Sketch:
    mask = (1 << level) - 1
    return Sketch(level, {key: span for key, span in sketch.spans.items() if not key & mask})


def _fitting(sketch: Sketch, capacity: int) -> Sketch:
    """Forget what is long unused, then halve the sample, until it fits."""
    if len(sketch.spans) <= capacity:
        return sketch
    oldest = max(last for _, last in sketch.spans.values()) - _OLD_DAYS
    recent = {key: span for key, span in sketch.spans.items() if span[1] >= oldest}
    sketch = Sketch(sketch.level, recent)
    while len(sketch.spans) > capacity:
        sketch = _at_level(sketch, sketch.level + 1)
    return sketch


def names_seen(
    names: Mapping[str, Span], seen: Iterable[str], day: int, capacity: int
) -> dict[str, Span]:
    """The names with these seen on that day; beyond the capacity the longest unused go."""
    return _latest(_seen(names, seen, day), capacity)


def names_joined(
    one: Mapping[str, Span], other: Mapping[str, Span], capacity: int
) -> dict[str, Span]:
    """All names that either has, as far as they fit."""
    return _latest(_joined(one, other), capacity)


def _latest(names: dict[str, Span], capacity: int) -> dict[str, Span]:
    if len(names) <= capacity:
        return names
    by_use = sorted(names.items(), key=lambda item: (-item[1][1], item[1][0], item[0]))
    return dict(by_use[:capacity])


def _seen(spans: Mapping[K, Span], keys: Iterable[K], day: int) -> dict[K, Span]:
    """The same mapping if nothing changes, which is the rule."""
    changed: dict[K, Span] = {}
    for key in keys:
        span = spans.get(key, (day, day))
        wider = (min(span[0], day), max(span[1], day))
        if key not in spans or wider != span:
            changed[key] = wider
    if not changed and isinstance(spans, dict):
        return spans
    return {**spans, **changed}


def _joined(one: Mapping[K, Span], other: Mapping[K, Span]) -> dict[K, Span]:
    both = dict(one)
    for key, (first, last) in other.items():
        mine = both.get(key, (first, last))
        both[key] = (min(first, mine[0]), max(last, mine[1]))
    return both
