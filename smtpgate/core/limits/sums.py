"""Numbers by key, such as the open connections of a client; also of several processes."""

from typing import Protocol

# A pair is a name and its account: to make a text of both each time would cost more.
SumKey = str | tuple[str, str]


class Sums(Protocol):
    """Sums by key, over all who count. A sum may be too high for a moment, never too low."""

    def add_to_all(self, keys: tuple[SumKey, ...], number: int) -> int:
        """Add a number to the sum of each key, and return that of the first key with it."""

    def subtract_from_all(self, keys: tuple[SumKey, ...], number: int) -> None:
        """Take a number off the sum of each key."""

    def add(self, key: SumKey, number: int) -> int:
        """Add a number, and return the sum with it."""

    def subtract(self, key: SumKey, number: int) -> None:
        """Take a number off that was added."""

    def sum(self, key: SumKey) -> int:
        """The sum of a key; 0 for a key of which nothing is counted."""


class LocalSums:
    """The sums of one process, which are exact. Implements Sums."""

    def __init__(self) -> None:
        self._sums: dict[SumKey, int] = {}

    def add_to_all(self, keys: tuple[SumKey, ...], number: int) -> int:
        """Add a number to the sum of each key, and return that of the first key with it."""
        first, *others = keys
        for key in others:
            self.add(key, number)
        return self.add(first, number)

    def subtract_from_all(self, keys: tuple[SumKey, ...], number: int) -> None:
        """Take a number off the sum of each key."""
        for key in keys:
            self.add(key, -number)

    def add(self, key: SumKey, number: int) -> int:
        """Add a number, and return the sum with it."""
        total = self._sums.get(key, 0) + number
        if total:
            self._sums[key] = total
        else:
            self._sums.pop(key, None)
        return total

    def subtract(self, key: SumKey, number: int) -> None:
        """Take a number off that was added."""
        self.add(key, -number)

    def sum(self, key: SumKey) -> int:
        """The sum of a key; 0 for a key of which nothing is counted."""
        return self._sums.get(key, 0)
