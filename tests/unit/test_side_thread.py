"""The thread beside the event loop: its groups, its errors, and its end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from smtpgate.tasks import SideThread
from tests.support.clock import settle


def _where(_: object) -> str:
    return threading.current_thread().name


class _Busy:
    """A side thread that is busy until it may go on; it notes what it does."""

    def __init__(self) -> None:
        self.side = SideThread("test")
        self.begun = list[int]()
        self._may_go_on = threading.Event()
        self._is_busy = threading.Event()
        self.first: asyncio.Task[int]

    def _block(self, number: int) -> int:
        self._is_busy.set()
        assert self._may_go_on.wait(10)
        return number

    def _note(self, number: int) -> int:
        self.begun.append(number)
        if number < 0:
            raise ValueError(number)
        return number * 10

    async def begin(self) -> None:
        """Have the thread begin work that takes long."""
        self.first = asyncio.create_task(self.side.run(self._block, 0))
        await settle()
        assert self._is_busy.wait(10)

    async def ask(self, *numbers: int) -> list[asyncio.Task[int]]:
        """Ask for more work meanwhile."""
        tasks = [asyncio.create_task(self.side.run(self._note, one)) for one in numbers]
        await settle()
        return tasks

    def go_on(self) -> None:
        """Let it end the work under way."""
        self._may_go_on.set()


@asynccontextmanager
async def _busy() -> AsyncIterator[_Busy]:
    busy = _Busy()
    await busy.begin()
    try:
        yield busy
    finally:
        busy.go_on()
        busy.side.stop()


async def test_a_group_is_done_in_its_order_and_wakes_the_loop_for_several_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, calls = asyncio.get_running_loop(), list[object]()
    call = loop.call_soon_threadsafe

    def count(callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:  # noqa: ANN401
        calls.append(callback)
        return call(callback, *arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    async with _busy() as busy:
        tasks = await busy.ask(*range(1, 10))
        assert not busy.begun
        busy.go_on()
        assert await asyncio.gather(busy.first, *tasks) == [n * 10 for n in range(10)]
        assert busy.begun == list(range(1, 10))
    assert 1 <= len(calls) <= 3  # of four, four and two results, or more together


async def test_a_lone_result_does_not_wait_for_others() -> None:
    side = SideThread("test")
    assert await side.run(_where, None) == "smtpgate-test"
    side.stop()


async def test_the_error_of_one_is_raised_for_its_caller_alone() -> None:
    async with _busy() as busy:
        tasks = await busy.ask(1, -2, 3)
        busy.go_on()
        good, bad, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert (good, last) == (10, 30)
        assert isinstance(bad, ValueError)
        assert await busy.side.run(_where, None) == "smtpgate-test"


async def test_work_of_a_cancelled_caller_is_not_begun_and_its_result_is_dropped() -> None:
    async with _busy() as busy:
        one, two, three = await busy.ask(1, 2, 3)
        for task in (busy.first, one, three):
            task.cancel()
        await settle()
        busy.go_on()
        assert await two == 20
        assert busy.first.cancelled()
        assert await busy.side.run(str, 4) == "4"
        assert busy.begun == [2]


async def test_stop_does_the_work_that_was_asked_for_and_ends_the_thread() -> None:
    async with _busy() as busy:
        tasks = await busy.ask(1, 2)
        busy.go_on()
        busy.side.stop()
        assert "smtpgate-test" not in {one.name for one in threading.enumerate()}
        assert await asyncio.gather(busy.first, *tasks) == [0, 10, 20]
        # What comes later is done all the same.
        assert await busy.side.run(_where, None) == threading.current_thread().name
        busy.side.stop()


async def test_where_no_thread_can_be_started_the_work_is_done_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, here = SideThread("test"), threading.current_thread().name

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert await side.run(_where, None) == here
    assert await side.run(_where, None) == "smtpgate-test"
    side.stop()


def test_a_loop_that_was_closed_does_not_end_the_thread_with_an_error() -> None:
    loop = asyncio.new_event_loop()
    busy = _Busy()
    loop.run_until_complete(busy.begin())
    busy.first.cancel()
    (task,) = loop.run_until_complete(busy.ask(1))
    loop.close()
    busy.go_on()
    busy.side.stop()
    assert busy.begun == [1]
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be
