"""Numbers by key, such as the open connections of a client; also of several processes."""

from typing import Protocol


class Sums(Protocol):
    """Sums by key, over all who count. A sum may be too high for a moment, never too low."""

    def add(self, key: str, number: int) -> int:
        """Add a number, and return the sum with it."""

    def subtract(self, key: str, number: int) -> None:
        """Take a number off that was added."""

    def sum(self, key: str) -> int:
        """The sum of a key; 0 for a key of which nothing is counted."""


class LocalSums:
    """The sums of one process, which are exact. Implements Sums."""

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def add(self, key: str, number: int) -> int:
        """Add a number, and return the sum with it."""
        total = self._sums.get(key, 0) + number
        if total:
            self._sums[key] = total
        else:
            self._sums.pop(key, None)
        return total

    def subtract(self, key: str, number: int) -> None:
        """Take a number off that was added."""
        self.add(key, -number)

    def sum(self, key: str) -> int:
        """The sum of a key; 0 for a key of which nothing is counted."""
        return self._sums.get(key, 0)
