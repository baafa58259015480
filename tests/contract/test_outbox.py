"""The outbox on SQLite and PostgreSQL: tasks come with a verdict, and are carried to an end."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from smtpgate.config.sections import OutboxConfig
from smtpgate.core.events import SubmissionDone, TaskGivenUp
from smtpgate.core.outbox.event import SendDetail
from smtpgate.core.outbox.task import GivenUp, LeasedTask, Result, Task, TryAgain
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.tasks import keep_new, task_rows
from smtpgate.outbox.queue import TaskQueue
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.journal import Received, open_journal, submission
from tests.support.outbox import (
    HOOK,
    OTHER,
    RETURN_PATH,
    Destinations,
    queue_of,
    sender_of,
    states,
    task,
)
from tests.support.waiting import until


@pytest.fixture
def received() -> Received:
    return Received()


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.for_journal()


@pytest.fixture
async def journal(
    url: str, tmp_path: Path, clock: MovableClock, received: Received
) -> AsyncIterator[LiveJournal]:
    async with open_journal(url, tmp_path, clock=clock, received=received) as opened:
        yield opened
    assert not received.errors


async def end(journal: LiveJournal, event: SubmissionDone, *tasks: Task) -> None:
    event.tasks = tasks
    await journal.finish(event)


# -- with the verdict --------------------------------------------------------------------------


async def test_tasks_come_with_the_verdict_once(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    one, other = task(event), task(event, RETURN_PATH)
    await journal.begin(event)
    await end(journal, event, one, other, one)
    assert await states(journal) == sorted([(one.id, "waiting"), (other.id, "waiting")])


async def test_a_verdict_without_tasks_writes_none(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    await journal.begin(event)
    await journal.finish(event)
    assert await states(journal) == []


async def test_noted_tasks_are_not_carried_before_the_verdict(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    one = task(event)
    await journal.begin(event)
    await journal.note([one], [])
    assert await states(journal) == [(one.id, "provisional")]
    assert await queue_of(journal).lanes() == {}
    await end(journal, event, one, task(event, HOOK, SendDetail()))
    assert dict(await states(journal))[one.id] == "waiting"
    assert list(await queue_of(journal).lanes()) == [HOOK.lane]


async def test_noted_tasks_go_with_a_verdict_that_has_the_client_try_again(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event, neighbour = submission(clock), submission(clock)
    for each in (event, neighbour):
        await journal.begin(each)
        await journal.note([task(each)], [])
    event.outcome, event.reason = "deferred", "upstream-unreachable"
    await end(journal, event)
    assert await states(journal) == [(task(neighbour).id, "provisional")]


async def test_noted_tasks_stay_with_a_verdict_that_says_nothing_of_tasks(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    await journal.begin(event)
    await journal.note([task(event)], [])
    event.outcome, event.reason, event.events = "deferred", "upstream-unreachable", ()
    await journal.finish(event)
    assert await states(journal) == [(task(event).id, "provisional")]


async def test_noted_tasks_are_in_force_when_nobody_knows_which_reply_the_client_got(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    await journal.begin(event)
    await journal.note([task(event)], [])
    await journal.give_up([event.submission.message_id])
    assert await states(journal) == [(task(event).id, "waiting")]
    await end(journal, event, task(event))  # a verdict that comes after all changes nothing
    assert await states(journal) == [(task(event).id, "waiting")]


async def test_noted_tasks_without_any_record_come_into_force_in_the_end(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    await journal.note([task(event)], [])
    queue = queue_of(journal)
    clock.move(3599)
    await queue.tidy(clock.now(), 86_400)
    assert await states(journal) == [(task(event).id, "provisional")]
    clock.move(2)
    await queue.tidy(clock.now(), 86_400)
    assert await states(journal) == [(task(event).id, "waiting")]


async def test_a_task_that_is_there_is_not_added_again(
    journal: LiveJournal, clock: MovableClock
) -> None:
    queue, one = queue_of(journal), task(submission(clock))
    woken: list[str] = []
    queue.on_added = lambda: woken.append("woken")
    added = [await queue.add([one, one]), await queue.add([one])]
    assert [one.tasks for one in added] == [1, 0]
    assert woken == ["woken"]


# -- leases ------------------------------------------------------------------------------------


async def test_tasks_may_be_more_than_a_statement_has_values(
    journal: LiveJournal, clock: MovableClock
) -> None:
    rows = task_rows([task(submission(clock))], "waiting") * 33_000
    async with journal.store.database.writing() as connection:
        assert await connection.run_sync(keep_new, rows) == 1


async def test_a_task_is_leased_to_one_sender_until_the_lease_ends(
    journal: LiveJournal, clock: MovableClock
) -> None:
    queue, one = queue_of(journal), task(submission(clock))
    await queue.add([one])
    wanted = {HOOK.lane: 10}
    (leased,) = await queue.lease(wanted, clock.now(), 60)
    assert leased == LeasedTask(one, 1, one.event.at)
    assert await queue.lease(wanted, clock.now(), 60) == []
    clock.move(61)
    (again,) = await queue.lease(wanted, clock.now(), 60)
    assert again.number == 2


async def test_a_lease_that_is_given_back_is_no_attempt(
    journal: LiveJournal, clock: MovableClock
) -> None:
    queue = queue_of(journal)
    await queue.add([task(submission(clock))])
    leased = await queue.lease({HOOK.lane: 1}, clock.now(), 60)
    await queue.release(leased, clock.now())
    (again,) = await queue.lease({HOOK.lane: 1}, clock.now(), 60)
    assert again.number == 1


async def test_the_leases_of_a_gate_that_has_ended_are_released(
    journal: LiveJournal, clock: MovableClock
) -> None:
    queue = queue_of(journal)
    gone = TaskQueue(journal.writer.run, journal.store, lambda: 12345)
    await queue.add([task(submission(clock))])
    assert len(await gone.lease({HOOK.lane: 1}, clock.now(), 600)) == 1
    await queue.release_orphans()
    assert len(await queue.lease({HOOK.lane: 1}, clock.now(), 600)) == 1
    await queue.release_orphans()
    assert await queue.lease({HOOK.lane: 1}, clock.now(), 600) == []


async def test_lanes_are_found_however_many_tasks_wait_in_each(
    journal: LiveJournal, clock: MovableClock
) -> None:
    queue, event = queue_of(journal), submission(clock)
    many = [task(event, HOOK, address=f"a{number}@example.net") for number in range(60)]
    await queue.add([*many, task(event, OTHER), task(event, RETURN_PATH)])
    due = await queue.lanes()
    assert due == dict.fromkeys((HOOK.lane, OTHER.lane, "mail"), event.submission.received_at)


# -- the sender --------------------------------------------------------------------------------


async def run_until(sender_done: asyncio.Task[None], condition: object) -> None:
    assert callable(condition)
    await until(condition)
    assert not sender_done.done()


async def test_every_task_is_carried_once(journal: LiveJournal, clock: MovableClock) -> None:
    carrier = Destinations()
    sender = sender_of(journal, carrier, clock)
    event = submission(clock)
    tasks = [
        task(event, one, address=f"a{number}@example.net")
        for number in range(150)
        for one in (HOOK, RETURN_PATH)
    ]
    await sender.queue.add(tasks)
    running = asyncio.create_task(sender.run())
    await run_until(running, lambda: len(carrier.came) == len(tasks))
    await sender.stop()
    await running
    assert set(carrier.came.values()) == {1}
    assert {state for _, state in await states(journal)} == {"sent"}
    assert carrier.most <= 8


async def test_a_slow_destination_delays_no_other(
    journal: LiveJournal, clock: MovableClock
) -> None:
    carrier = Destinations()
    carrier.slow.add(HOOK.name)
    sender = sender_of(journal, carrier, clock)
    event = submission(clock)
    slow = [task(event, HOOK, address=f"a{number}@example.net") for number in range(80)]
    fast = [task(event, OTHER, address=f"a{number}@example.net") for number in range(80)]
    await sender.queue.add([*slow, *fast])
    running = asyncio.create_task(sender.run())
    await run_until(running, lambda: len(carrier.came) == len(fast))
    assert set(carrier.came) == {one.id for one in fast}
    carrier.released.set()
    await run_until(running, lambda: len(carrier.came) == len(fast) + len(slow))
    await sender.stop()
    await running


async def test_a_new_task_wakes_the_sender(journal: LiveJournal, clock: MovableClock) -> None:
    carrier = Destinations()
    sender = sender_of(journal, carrier, clock)
    sender.queue.on_added = sender.wake
    running = asyncio.create_task(sender.run())
    await asyncio.sleep(0.05)
    await sender.queue.add([task(submission(clock))])
    async with asyncio.timeout(2):  # and not at its next look, 5 seconds later
        await until(lambda: len(carrier.came) == 1)
    await sender.stop()
    await running


async def test_a_task_that_fails_is_tried_again_later_and_given_up_in_the_end(
    journal: LiveJournal, clock: MovableClock, received: Received
) -> None:
    numbers: list[int] = []

    def answer(leased: LeasedTask) -> Result:
        numbers.append(leased.number)
        return TryAgain("503 not now")

    settings = OutboxConfig(give_up_after_s=60)
    sender = sender_of(journal, Destinations(answer), clock, settings)
    await sender.queue.add([task(submission(clock))])
    running = asyncio.create_task(sender.run())
    for number in (1, 2, 3):
        await until(lambda number=number: len(numbers) == number)  # type: ignore[misc]
        clock.move(10 * 2 ** (number - 1))
        sender.wake()
    await until(lambda: any(isinstance(one, TaskGivenUp) for one in received.events))
    sender.wake()
    await sender.stop()
    await running
    assert numbers == [1, 2, 3]
    (given_up,) = [one for one in received.events if isinstance(one, TaskGivenUp)]
    assert (given_up.attempts, given_up.problem) == (3, "503 not now")
    assert [state for _, state in await states(journal)] == ["dead"]


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (GivenUp("410 gone"), "dead"),
        (OSError("connection refused"), "waiting"),
        (ValueError("a defect"), "waiting"),
    ],
    ids=["refused for good", "unreachable", "defect"],
)
async def test_what_an_attempt_comes_to(
    journal: LiveJournal, clock: MovableClock, failure: Result | Exception, state: str
) -> None:
    def answer(_: LeasedTask) -> Result:
        if isinstance(failure, Exception):
            raise failure
        return failure

    errors: list[BaseException] = []
    carrier = Destinations(answer)
    sender = sender_of(journal, carrier, clock, errors=errors)
    await sender.queue.add([task(submission(clock))])
    running = asyncio.create_task(sender.run())
    await until(lambda: bool(carrier.came))
    await sender.stop()
    await running
    assert [found for _, found in await states(journal)] == [state]
    assert [type(error) for error in errors] == [ValueError] * isinstance(failure, ValueError)


async def test_an_attempt_that_takes_too_long_has_failed(
    journal: LiveJournal, clock: MovableClock
) -> None:
    carrier = Destinations()
    carrier.slow.add(HOOK.name)
    sender = sender_of(journal, carrier, clock, OutboxConfig(timeout_s=0.05))
    await sender.queue.add([task(submission(clock))])
    running = asyncio.create_task(sender.run())
    readings = sender.readings
    await until(
        lambda: any(one.labels == ("failed", "Bounce", "webhook") for one in readings())
    )
    await sender.stop()
    await running
    assert not carrier.came


async def test_a_stop_gives_back_what_was_not_begun(
    journal: LiveJournal, clock: MovableClock
) -> None:
    carrier = Destinations()
    carrier.slow.add(HOOK.name)
    sender = sender_of(journal, carrier, clock, OutboxConfig(timeout_s=0.1))
    event = submission(clock)
    tasks = [task(event, HOOK, address=f"a{number}@example.net") for number in range(20)]
    await sender.queue.add(tasks)
    running = asyncio.create_task(sender.run())
    await until(lambda: carrier.most == 4)
    await sender.stop()
    await running
    due = await queue_of(journal).lease({HOOK.lane: 100}, clock.now(), 60)
    assert len(due) >= 12
    assert {one.number for one in due} == {1}


async def test_what_is_sent_or_dead_is_kept_for_some_days(
    journal: LiveJournal, clock: MovableClock
) -> None:
    carrier = Destinations(lambda _: GivenUp("gone"))
    sender = sender_of(journal, carrier, clock, OutboxConfig(keep_days=2))
    event = submission(clock)
    await sender.queue.add([task(event)])
    running = asyncio.create_task(sender.run())
    await until(lambda: bool(carrier.came))
    await sender.stop()
    await running
    keep_s = timedelta(days=2).total_seconds()
    clock.move(keep_s - 1)
    await sender.queue.tidy(clock.now(), keep_s)
    assert len(await states(journal)) == 1
    clock.move(2)
    await sender.queue.tidy(clock.now(), keep_s)
    assert await states(journal) == []


async def test_an_attempt_by_mail_is_left_to_the_upstream(
    journal: LiveJournal, clock: MovableClock
) -> None:
    carrier = Destinations()
    carrier.slow.add(RETURN_PATH.name)
    sender = sender_of(journal, carrier, clock, OutboxConfig(timeout_s=0.01))
    await sender.queue.add([task(submission(clock), RETURN_PATH)])
    running = asyncio.create_task(sender.run())
    await until(lambda: carrier.most == 1)
    await asyncio.sleep(0.05)
    carrier.released.set()
    await until(lambda: bool(carrier.came))
    await sender.stop()
    await running
    assert [state for _, state in await states(journal)] == ["sent"]
