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
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_ROWS: Final = 3
_SLOTS: Final = 8192  # a power of two: 13 bits of a hash
_BITS: Final = 20
_OCTETS: Final = 8
# An account sends many messages, each of which is counted four times.
_KEPT_KEYS: Final = 1024


class SharedSums:
    """The cells of all workers; made before they are forked."""

    def __init__(self, workers: int, exact: Sequence[str] = ()) -> None:
        """The keys in ``exact`` have cells of their own, in which nothing else is counted."""
        self._own_cells = {key: at for at, key in enumerate(exact)}
        self._size = len(self._own_cells) + _ROWS * _SLOTS
        self._cells = memoryview(mmap.mmap(-1, workers * self._size * _OCTETS)).cast("q")

    def of_worker(self, number: int) -> "WorkersSums":
        """The sums as the worker of that number adds to them."""
        return WorkersSums(self._cells, number * self._size, self._size, self._own_cells)

    def clear(self, number: int) -> None:
        """Forget what a worker counted that has ended."""
        start = number * self._size * _OCTETS
        octets = self._cells.cast("B")
        octets[start : start + self._size * _OCTETS] = bytes(self._size * _OCTETS)


class WorkersSums:
    """The sums of all workers, as one of them adds to them. Implements Sums."""

    def __init__(
        self, cells: memoryview, start: int, size: int, own_cells: dict[str, int]
    ) -> None:
        self._cells = cells
        self._start = start
        self._size = size
        self._own_cells = own_cells
        self._places = lru_cache(maxsize=_KEPT_KEYS)(self._find_places)

    def add(self, key: str, number: int) -> int:
        """Add a number, and return the sum with it."""
        return self._least(self._count(key, number))

    def subtract(self, key: str, number: int) -> None:
        """Take a number off that was added."""
        self._count(key, -number)

    def sum(self, key: str) -> int:
        """The sum of a key; 0 for a key of which nothing is counted."""
        return self._least(self._places(key))

    def _count(self, key: str, number: int) -> tuple[int, ...]:
        cells, start, places = self._cells, self._start, self._places(key)
        for place in places:
            cells[start + place] += number
        return places

    def _least(self, places: tuple[int, ...]) -> int:
        cells, size = self._cells, self._size
        return min([sum(cells[place::size]) for place in places])

    def _find_places(self, key: str) -> tuple[int, ...]:
        own = self._own_cells.get(key)
        if own is not None:
            return (own,)
        # Keyed by chance at the start of the parent, so no client can choose its cells.
        code, first = hash(key), len(self._own_cells)
        return tuple(
            first + row * _SLOTS + (code >> row * _BITS & _SLOTS - 1) for row in range(_ROWS)
        )
