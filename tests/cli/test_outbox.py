"""``smtpgate outbox``: what waits, what was given up, and another try."""

import asyncio
from collections.abc import Sequence

import pytest

from smtpgate.clock import SystemClock
from smtpgate.core.outbox.retries import Settled
from smtpgate.core.outbox.task import Task
from tests.support.desk import Desk
from tests.support.journal import journal_in, open_journal, submission
from tests.support.outbox import HOOK, OTHER, RETURN_PATH, queue_of, task
from tests.support.world import OWNER


@pytest.fixture
def tasks(desk: Desk) -> Sequence[Task]:
    """A webhook and a report that wait, and a webhook that was given up."""
    event = submission(SystemClock())
    made = [task(event, HOOK), task(event, RETURN_PATH), task(event, OTHER)]

    async def put() -> None:
        state = desk.folder / "state"
        state.mkdir(exist_ok=True)
        async with open_journal(journal_in(state), state, clock=SystemClock()) as journal:
            queue, now = queue_of(journal), SystemClock().now()
            await queue.add(made)
            (leased,) = await queue.lease({OTHER.lane: 1}, now, 60)
            dead = Settled(leased.task.id, 1, "dead", now, now, "410 \x1b[31mgone")
            await queue.settle([dead])

    asyncio.run(put())
    return made


def listed(desk: Desk, *words: str) -> list[str]:
    return [one["id"] for one in desk.answers("outbox", "list", *words)]


def test_tasks_are_listed_by_what_they_are(desk: Desk, tasks: Sequence[Task]) -> None:
    hook, report, dead = (one.id for one in tasks)
    assert set(listed(desk)) == {hook, report, dead}
    assert listed(desk, "--state", "dead") == [dead]
    assert set(listed(desk, "--state", "waiting")) == {hook, report}
    assert set(listed(desk, "--account", OWNER)) == {hook, dead}
    assert listed(desk, "--to", RETURN_PATH.name) == [report]
    assert listed(desk, "--kind", "Delivery") == []
    kind = tasks[0].event.kind
    assert tasks[0].id in listed(desk, "--kind", kind)
    assert listed(desk, "--kind", kind.lower()) == listed(desk, "--kind", kind)
    message = tasks[0].event.mail.message_id
    assert len(listed(desk, "--message", message)) == 3
    assert "no tasks were found" in desk.says("outbox", "list", "--message", "0100")
    assert "\x1b" not in desk.says("outbox", "list")


def test_a_task_is_shown_by_a_unique_beginning_of_its_id(
    desk: Desk, tasks: Sequence[Task]
) -> None:
    output = desk.answers("outbox", "show", tasks[2].id[:12])
    assert output["state"] == "dead"
    assert output["destination"] == OTHER.name
    assert output["recipients"] == ["jane0@example.net"]
    assert output["attempts"] == 1
    assert "the outbox has no task zz" in desk.refuses("outbox", "show", "zz")
    assert "the outbox has no task" in desk.refuses("outbox", "show", "%'")


def test_a_dead_task_can_be_tried_again(desk: Desk, tasks: Sequence[Task]) -> None:
    output = desk.answers("outbox", "retry", tasks[2].id)
    assert (output["state"], output["attempts"]) == ("waiting", 0)
    assert listed(desk, "--state", "dead") == []
    assert desk.says("outbox", "retry", tasks[2].id).endswith(", will be tried again\n")


def test_all_dead_tasks_of_a_destination_can_be_tried_again(
    desk: Desk, tasks: Sequence[Task]
) -> None:
    assert "0 tasks will" in desk.says("outbox", "retry", "--dead", "--to", HOOK.name)
    assert "1 task will be tried again" in desk.says("outbox", "retry", "--dead")
    assert desk.answers("outbox", "retry", "--dead") == {"retried": 0}


def test_a_task_can_be_dropped(desk: Desk, tasks: Sequence[Task]) -> None:
    said = desk.says("outbox", "drop", tasks[0].id, "--yes")
    assert said.startswith(f"task {tasks[0].id}, ")
    assert said.endswith(f" to {tasks[0].destination.name}, was deleted\n")
    assert tasks[0].id not in listed(desk)
    assert "the outbox has no task" in desk.refuses("outbox", "drop", tasks[0].id, "--yes")


@pytest.mark.parametrize("words", [(), ("0100", "--dead"), ("0100", "--to", "a@example.com")])
def test_a_retry_is_of_a_task_or_of_all_dead_ones(desk: Desk, words: tuple[str, ...]) -> None:
    assert desk.give("outbox", "retry", *words).exit_code == 2
