import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from smtpgate.tasks import Deadline, LoopTurns, Offload, Rerun, TaskOwner, Threads
from tests.support.clock import MovableClock, settle


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


def _offload() -> Offload:
    return Offload(LoopTurns(MovableClock().monotonic), Threads("message"))


async def test_long_work_has_a_thread_and_short_work_is_done_at_once() -> None:
    offload, here = _offload(), threading.current_thread()
    assert await offload.run(False, threading.current_thread) is here
    assert (await offload.run(True, threading.current_thread)).name.startswith(
        "smtpgate-message"
    )


class _Steps:
    """Steps that each take a while, and the time that each turn of the loop took with them."""

    def __init__(self) -> None:
        self._clock = MovableClock()
        self.turns = LoopTurns(self._clock.monotonic)
        self._offload = Offload(self.turns, Threads("message"))
        self.taken = list[int]()
        self.turns_s = list[float]()

    def _take(self, number: int, seconds: float) -> None:
        self._clock.move(seconds)
        self.taken.append(number)

    async def step(self, number: int, seconds: float) -> None:
        """Take a step."""
        await self._offload.run(False, self._take, number, seconds)

    async def watch(self, count: int) -> None:
        """Note the time of each turn until so many steps were taken."""
        while len(self.taken) < count:
            before_s = self._clock.monotonic()
            await asyncio.sleep(0)
            self.turns_s.append(self._clock.monotonic() - before_s)


async def test_work_that_follows_is_done_at_once_while_the_turn_has_time_and_else_waits() -> (
    None
):
    clock = MovableClock()
    turns = LoopTurns(clock.monotonic)
    offload, done = Offload(turns, Threads("message")), list[str]()

    async def two(name: str) -> None:
        for run, part in ((offload.run, "first"), (offload.run_next, "second")):
            await run(False, clock.move, 0.001)
            done.append(f"{part} {name}")

    await offload.run(False, clock.move, 0.003)  # all wait for the next turn
    await asyncio.gather(*(two(name) for name in "abc"))
    # A turn of 2.5 ms has the two of a, and the first of b, whose second one waits behind c.
    assert done == ["first a", "second a", "first b", "first c", "second c", "second b"]
    thread = await offload.run_next(True, threading.current_thread)
    assert thread.name.startswith("smtpgate-message")


async def test_steps_of_many_tasks_are_spread_over_turns_of_the_loop_in_their_order() -> None:
    steps = _Steps()
    tasks = [asyncio.create_task(steps.step(number, 0.0004)) for number in range(100)]
    await steps.watch(100)
    await asyncio.gather(*tasks)
    assert steps.taken == list(range(100))
    assert max(steps.turns_s) < 0.004
    # No turn is wasted: as many steps are taken as have time.
    assert len([one for one in steps.turns_s if one]) < 100 * 0.0004 / 0.0025 + 2


async def test_a_step_that_takes_longer_than_a_turn_has_one_of_its_own() -> None:
    steps = _Steps()
    tasks = [asyncio.create_task(steps.step(number, 0.005)) for number in range(5)]
    await steps.watch(5)
    await asyncio.gather(*tasks)
    assert [round(one, 3) for one in steps.turns_s if one] == [0.005] * 5


async def test_a_step_of_a_task_that_has_ended_takes_no_place() -> None:
    steps = _Steps()
    tasks = [asyncio.create_task(steps.step(number, 0.005)) for number in range(6)]
    await asyncio.sleep(0)
    for number in (1, 2, 5):
        tasks[number].cancel()
    await steps.watch(3)
    assert steps.taken == [0, 3, 4]
    await steps.step(6, 0.001)
    assert steps.taken == [0, 3, 4, 6]


async def test_a_step_whose_cost_comes_later_is_counted_before() -> None:
    steps, passed = _Steps(), list[int]()

    async def begin(number: int) -> None:
        await steps.turns.step(cost_s=0.0015)
        passed.append(number)

    tasks = [asyncio.create_task(begin(number)) for number in range(6)]
    counts = list[int]()
    while len(passed) < 6:
        await asyncio.sleep(0)
        counts.append(len(passed))
    await asyncio.gather(*tasks)
    assert passed == list(range(6))
    assert max(later - before for before, later in zip([0, *counts], counts, strict=False)) == 2


async def test_steps_wait_for_nothing_while_the_turn_has_time() -> None:
    steps = _Steps()
    for number in range(4):
        work = steps.step(number, 0.0004)
        with pytest.raises(StopIteration):
            work.send(None)
    assert steps.taken == [0, 1, 2, 3]


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


def test_a_deadline_whose_wait_has_ended_is_not_reached() -> None:
    timers, deadline = _deadline()
    deadline.move(10, pytest.fail)
    deadline.at = None
    timers.move_to(10)
    deadline.move(20, pytest.fail)
    deadline.close()
    assert timers.set == []
