"""Memory that closed connections leave behind, given back to the system.

glibc keeps what is freed between chunks that are still in use: after 3,000 TLS clients had come
and gone, twice, the process kept 295 MB, of which 167 MB were free. ``malloc_trim`` gives whole
pages back wherever they lie. It holds the allocator's lock meanwhile, for a third of a
millisecond a megabyte, so it is called in a thread, and more than once while a flood ends.
"""

import asyncio
import ctypes
from collections.abc import Callable
from typing import Final

from smtpgate.tasks import TaskOwner, Threads

# Some 50 KiB each.
_CONNECTIONS: Final = 128
_REST_S: Final = 1.0


def trimmer() -> Callable[[int], int] | None:
    """The system's ``malloc_trim``, where it has one: glibc does, musl does not."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


class FreedMemory:
    """Gives memory back after every so many connections that were closed."""

    def __init__(
        self,
        tasks: TaskOwner,
        trim: Callable[[int], int] | None,
        *,
        rest_s: float = _REST_S,
    ) -> None:
        self._rest_s = rest_s
        self._tasks = tasks
        self._trim = trim
        self._threads = Threads("memory")
        self._closed = 0
        self._is_trimming = False

    def connection_closed(self) -> None:
        """Note a connection that was closed."""
        self._closed += 1
        if self._closed >= _CONNECTIONS and not self._is_trimming and self._trim is not None:
            self._is_trimming = True
            _ = self._tasks.start(self._give_back(self._trim), name="memory")

    async def _give_back(self, trim: Callable[[int], int]) -> None:
        try:
            while self._closed >= _CONNECTIONS:
                self._closed = 0
                await self._threads.run(trim, 0)
                await asyncio.sleep(self._rest_s)
            # Once more: a session ends a little later than its connection.
            self._closed = 0
            await self._threads.run(trim, 0)
        finally:
            self._is_trimming = False
