"""Sums that worker processes count together, in memory that they share.

A bound such as the connections of a client is one of the host, so a worker must know what the
others have. To ask a parent process would cost a connection two changes of the process, and a
flood of connections would delay the parent. Here each worker has cells of its own, which only
it writes, and reads those of all: no lock, which a killed worker might hold, and no wait.

A worker adds first and looks then, so that of two workers at the bound at least one sees the
other: the bound is never passed. The number of keys is not bounded, so a key has a cell in each
of three rows, by its hash, and its sum is the least of the three (a count-min sketch). Keys
that share a cell in one row hardly do in all; if they do, the sum is too high, never too low.
"""

import mmap
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from smtpgate.core.limits.sums import SumKey

_ROWS: Final = 3
_SLOTS: Final = 8192  # a power of two: 13 bits of a hash
_BITS: Final = 20
_OCTETS: Final = 8
# An account sends many messages, each of which is counted two times under the same keys.
_KEPT_KEYS: Final = 1024


class SharedSums:
    """The cells of all workers; made before they are forked."""

    def __init__(self, workers: int, exact: Sequence[str] = ()) -> None:
        """The keys in ``exact`` have cells of their own, in which nothing else is counted."""
        self._own_cells: dict[SumKey, int] = {key: at for at, key in enumerate(exact)}
        self._size = len(self._own_cells) + _ROWS * _SLOTS
        self._cells = memoryview(mmap.mmap(-1, workers * self._size * _OCTETS)).cast("q")

    def of_worker(self, number: int) -> "WorkersSums":
        """The sums as the worker of that number adds to them."""
        return WorkersSums(self._cells, number, self._size, self._own_cells)

    def clear(self, number: int) -> None:
        """Forget what a worker counted that has ended."""
        start = number * self._size * _OCTETS
        octets = self._cells.cast("B")
        octets[start : start + self._size * _OCTETS] = bytes(self._size * _OCTETS)


class WorkersSums:
    """The sums of all workers, as one of them adds to them. Implements Sums."""

    def __init__(
        self, cells: memoryview, number: int, size: int, own_cells: Mapping[SumKey, int]
    ) -> None:
        self._cells = cells
        self._mine = cells[number * size : (number + 1) * size]
        self._size = size
        self._own_cells = own_cells
        self._kept = lru_cache(maxsize=_KEPT_KEYS)(self._find)

    def add_to_all(self, keys: tuple[SumKey, ...], number: int) -> int:
        """Add a number to the sum of each key, and return that of the first key with it."""
        mine, (places, columns) = self._mine, self._kept(keys)
        for place in places:
            mine[place] += number
        return min(map(sum, columns))

    def subtract_from_all(self, keys: tuple[SumKey, ...], number: int) -> None:
        """Take a number off the sum of each key."""
        mine = self._mine
        for place in self._kept(keys)[0]:
            mine[place] -= number

    def add(self, key: SumKey, number: int) -> int:
        """Add a number, and return the sum with it."""
        return self.add_to_all((key,), number)

    def subtract(self, key: SumKey, number: int) -> None:
        """Take a number off that was added."""
        self.subtract_from_all((key,), number)

    def sum(self, key: SumKey) -> int:
        """The sum of a key; 0 for a key of which nothing is counted."""
        return min(map(sum, self._kept((key,))[1]))

    def _find(self, keys: tuple[SumKey, ...]) -> tuple[Sequence[int], Sequence[Sequence[int]]]:
        """The places of all keys, and those of the first in the cells of each worker."""
        cells, size = self._cells, self._size
        places = [place for key in keys for place in self._places(key)]
        return places, [cells[place::size] for place in self._places(keys[0])]

    def _places(self, key: SumKey) -> Iterable[int]:
        if key in self._own_cells:
            return (self._own_cells[key],)
        # Keyed by chance at the start of the parent, so no client can choose its cells.
        code, first = hash(key), len(self._own_cells)
        return (
            first + row * _SLOTS + (code >> row * _BITS & _SLOTS - 1) for row in range(_ROWS)
        )
