"""Random octets of the system for the path of a message, fetched for many messages at once.

Each ``os.urandom`` is a system call for which Python gives the interpreter away: beside a busy
thread that costs more than all else that is done to make an id. They are for names that must
differ, and are no secrets: octets that will be given out next lie in the memory of the process.
"""

import os
from typing import Final

_FETCHED: Final = 4096


class RandomOctets:
    """Gives out octets, each once. A process that is forked fetches its own."""

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def take(self, count: int) -> bytes:
        """So many octets that were never given out before."""
        end = self._at + count
        if end > len(self._octets):
            self._octets, end = os.urandom(max(_FETCHED, count)), count
        octets = self._octets[end - count : end]
        self._at = end
        return octets

    def _forget(self) -> None:
        self._octets, self._at = b"", 0
