"""Threads by purpose: work that is slow in one pool never holds up that of another.

asyncio's default pool has a few threads for everything. While a name was not resolved there,
no signature was made and no log line written. So what a message needs has threads of its own;
the default pool is left to commands and to what other libraries put there.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """At most ``count`` threads for one purpose, started when they are first needed."""

    def __init__(self, purpose: str, count: int = 1) -> None:
        self._pool = ThreadPoolExecutor(count, f"smtpgate-{purpose}")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the work in one of them, and return what it returns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(work, *args, **kwargs))
