"""Waiting for what comes about in another thread or process, and sends no event."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]

_PATIENCE_S = 30.0


async def until(holds: Callable[[], object], timeout_s: float = _PATIENCE_S) -> None:
    """Let the loop go on until it holds; TimeoutError after so long."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)
