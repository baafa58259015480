"""Attempts that begin one after the other, of which the first that succeeds counts.

So a connection does not wait for an address that leads nowhere (RFC 8305 §5): the next address
is tried a quarter of a second later, or as soon as an attempt has failed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final, TypeVar

from smtpgate.relay.names import Address
from smtpgate.tasks import TaskOwner

T = TypeVar("T")
Attempt = Callable[[], Coroutine[Any, Any, T]]

STAGGER_S: Final = 0.25  # RFC 8305 §8


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """The addresses, families by turns, each in its order (RFC 8305 §4).

    The resolver sorts them (RFC 6724), so the family of the first begins.
    """
    if not addresses:
        return []
    first = addresses[0][0]
    same = [one for one in addresses if one[0] == first]
    other = [one for one in addresses if one[0] != first]
    turns = chain.from_iterable(zip_longest(same, other))
    return [one for one in turns if one is not None]


async def first_success(
    attempts: Sequence[Attempt[T]], discard: Callable[[T], None], tasks: TaskOwner
) -> T:
    """The result of the first attempt that succeeds; there is at least one attempt.

    Those that are under way then are cancelled, and ``discard`` gets what comes too late.
    Raises the OSError of an attempt when all have failed.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    waiting, pending = deque(attempts), set[asyncio.Task[T]]()
    problem = OSError("no attempt")
    try:
        while waiting or pending:
            if waiting:
                pending.add(tasks.start(waiting.popleft()(), name="upstream-connect"))
            done, _ = await asyncio.wait(
                pending,
                timeout=STAGGER_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for one in done:
                pending.discard(one)
                error = one.exception()
                if error is None:
                    pending |= done - {one}
                    return one.result()
                if not isinstance(error, OSError):
                    raise error
                problem = error
        raise problem
    finally:
        for one in pending:
            one.cancel()
            one.add_done_callback(partial(_give_back, discard))


def _give_back(discard: Callable[[T], None], task: asyncio.Task[T]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())
