import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from smtpgate.tasks import Deadline, Offload, Rerun, TaskOwner, Threads
from tests.support.clock import settle


async def test_work_that_hangs_in_one_pool_does_not_hold_up_another() -> None:
    ends = threading.Event()
    slow, other = Threads("slow", 2), Threads("other")
    hanging = [asyncio.create_task(slow.run(ends.wait, 10)) for _ in range(10)]
    await asyncio.sleep(0)
    assert (await other.run(threading.current_thread)).name.startswith("smtpgate-other")
    ends.set()
    assert all(await asyncio.gather(*hanging))


async def test_it_returns_and_raises_what_the_work_does() -> None:
    threads = Threads("test")
    assert await threads.run(int, "f", base=16) == 15
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.run(int, "x")


async def test_long_work_has_a_thread_and_short_work_is_done_at_once() -> None:
    offload, here = Offload(), threading.current_thread()
    assert await offload.run(False, threading.current_thread) is here
    assert (await offload.run(True, threading.current_thread)).name.startswith(
        "smtpgate-message"
    )


async def test_work_asked_for_while_it_runs_is_repeated_once_and_never_beside_itself() -> None:
    running, runs, may_end = 0, list[int](), asyncio.Event()

    async def work() -> None:
        nonlocal running
        running += 1
        runs.append(running)
        await may_end.wait()
        running -= 1

    tasks = TaskOwner()
    rerun = Rerun(tasks, work, name="work")
    for _ in range(3):
        rerun.ask()
        await settle()
    assert runs == [1]
    may_end.set()
    await settle()
    assert runs == [1, 1]
    rerun.ask()
    await settle()
    assert runs == [1, 1, 1]
    assert not len(tasks)


async def test_work_that_fails_can_be_asked_for_again() -> None:
    runs = list[int]()

    async def work() -> None:
        runs.append(1)
        raise OSError("gone")

    tasks = TaskOwner()
    rerun = Rerun(tasks, work, name="work")
    for count in (1, 2):
        rerun.ask()
        (task,) = tasks._tasks
        with pytest.raises(OSError, match="gone"):
            await task
        assert len(runs) == count


class _Timers:
    """The part of an event loop that keeps timers; its time moves by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.set: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[..., Any], *facts: Any) -> asyncio.TimerHandle:  # noqa: ANN401
        loop = cast("asyncio.AbstractEventLoop", self)
        self.set.append(timer := asyncio.TimerHandle(at, call, facts, loop))
        return timer

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        self.set.remove(timer)

    def move_to(self, now: float) -> None:
        self.now = now
        for timer in [one for one in self.set if one.when() <= now]:
            self.set.remove(timer)
            timer._run()


def _deadline() -> tuple[_Timers, Deadline]:
    timers = _Timers()
    return timers, Deadline(cast("asyncio.AbstractEventLoop", timers))


def test_a_deadline_that_is_moved_on_at_each_step_sets_one_timer_and_is_reached_once() -> None:
    timers, deadline = _deadline()
    reached: list[float] = []
    for now in range(10):
        timers.now = now
        deadline.move(now + 10, lambda: reached.append(timers.now))
        assert [timer.when() for timer in timers.set] == [10]
    timers.move_to(10)
    assert ([timer.when() for timer in timers.set], reached) == ([19], [])
    timers.move_to(19)
    assert (timers.set, reached, deadline.at) == ([], [19], None)


def test_a_deadline_that_is_moved_to_an_earlier_moment_is_reached_then() -> None:
    timers, deadline = _deadline()
    reached: list[float] = []
    deadline.move(100, lambda: reached.append(timers.now))
    deadline.move(5, lambda: reached.append(timers.now))
    timers.move_to(5)
    assert (timers.set, reached) == ([], [5])


def test_a_deadline_that_was_cleared_or_closed_is_not_reached() -> None:
    timers, deadline = _deadline()
    deadline.move(10, pytest.fail)
    deadline.clear()
    timers.move_to(10)
    deadline.move(20, pytest.fail)
    deadline.close()
    assert timers.set == []
