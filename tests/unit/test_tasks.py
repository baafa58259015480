import asyncio
import threading

import pytest

from smtpgate.tasks import Offload, Rerun, TaskOwner, Threads
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
