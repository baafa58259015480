"""Tasks with an owner: none is lost, none is collected half way, all can be waited for."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class TaskOwner:
    """Holds the tasks it started until they end (asyncio itself holds them only weakly)."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, work: Coroutine[Any, Any, T], *, name: str | None = None
    ) -> asyncio.Task[T]:
        """Run the work in a task that is held until it ends."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Ask every task to end now."""
        for task in self._tasks:
            task.cancel()

    async def finish(self, timeout_s: float) -> int:
        """Wait until there is no task, at most so long, and return how many are left.

        Tasks that are started meanwhile are waited for too.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while self._tasks and (left_s := until - loop.time()) >= 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        return len(self._tasks)

    async def drain(self, timeout_s: float) -> int:
        """Wait until there is no task, at most so long; cancel and count the others."""
        count = await self.finish(timeout_s)
        if count:
            self.cancel()
            await asyncio.wait(self._tasks, timeout=1)
        return count


class Rhythm:
    """The waits of work that goes on for life, and its orderly end.

    Work that is cancelled leaves half-used connections behind; this asks it to end where it
    waits.
    """

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._is_over = False

    async def goes_on(self, after_s: float) -> bool:
        """Wait so long, or until woken; whether the work goes on then."""
        if not self._is_over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), after_s)
            self._woken.clear()
        return not self._is_over

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    def end(self) -> None:
        """End the wait and the work."""
        self._is_over = True
        self._woken.set()
