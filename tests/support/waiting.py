"""Waiting for what comes about in another thread or process, and sends no event."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, repeat
from typing import Final, TypeVar

T = TypeVar("T")

_PATIENCE_S: Final = 30.0
# Most things come about at once: the first looks come without a pause.
_PAUSES_S: Final = (0, 0, 0, 0.0005, 0.001, 0.002)
_LONGEST_PAUSE_S: Final = 0.005


async def until(holds: Callable[[], object], timeout_s: float = _PATIENCE_S) -> None:
    """Let the loop go on until it holds; TimeoutError after so long."""
    async with asyncio.timeout(timeout_s):
        pauses = _pauses()
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(next(pauses))


async def answered(ask: Callable[[], Awaitable[T]], timeout_s: float = _PATIENCE_S) -> T:
    """Ask until the answer is true, and return it; TimeoutError after so long."""
    async with asyncio.timeout(timeout_s):
        pauses = _pauses()
        while not (answer := await ask()):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(next(pauses))
    return answer


def _pauses() -> Iterator[float]:
    return chain(_PAUSES_S, repeat(_LONGEST_PAUSE_S))
