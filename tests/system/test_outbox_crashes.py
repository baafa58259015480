"""Processes that are killed at their work: each event arrives, and none that nobody caused."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from smtpgate.clock import SystemClock
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.usage import Grain
from smtpgate.journal.event_query import EventQuery
from smtpgate.journal.live import LiveJournal
from tests.support.daemons import Lab, eventually
from tests.support.databases import Databases
from tests.support.forks import Fork
from tests.support.journal import event_counts, open_journal
from tests.support.outbox import states

KILLS: Final = int(os.environ.get("SMTPGATE_OUTBOX_KILLS", "3"))
EVENTS: Final = int(os.environ.get("SMTPGATE_OUTBOX_EVENTS", "300"))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def killed_at_work(lab: Lab, url: str, folder: Path, number: int) -> None:
    log = folder / f"{number}.log-of-worker"
    worker = Fork(
        "-m", "tests.support.outbox_worker", url, folder, log, output=folder / f"{number}.log"
    )
    lab.keep(worker)

    def has_made_enough() -> bool:
        assert worker.is_running, worker.output()
        return log.exists() and log.read_bytes().count(b"R ") >= EVENTS // KILLS

    eventually(has_made_enough, "events to be made", 120)
    worker.kill()


def delivered_at_last(lab: Lab, url: str, folder: Path) -> None:
    log = folder / "last.log-of-worker"
    words = ("-m", "tests.support.outbox_worker", url, folder, log, "only-deliver")
    worker = Fork(*words, output=folder / "last.log")
    lab.keep(worker)
    eventually(lambda: not worker.is_running, "all events to be delivered", 300)
    assert not worker.output(), worker.output()


async def bounces_with_task(journal: LiveJournal) -> list[str]:
    """The ids of bounces that have a task, in whatever state."""
    async with journal.store.reading() as connection:
        found = await connection.exec_driver_sql(
            "SELECT event_id FROM journal_tasks WHERE kind = 'Bounce'"
        )
        return [str(row.event_id) for row in found]


async def events_in_force(journal: LiveJournal) -> list[str]:
    """The ids of the events that have come into force."""
    async with journal.store.reading() as connection:
        found = await connection.exec_driver_sql(
            "SELECT id FROM journal_events WHERE is_provisional = 0"
        )
        return [str(row.id) for row in found]


@pytest.mark.slow
async def test_each_event_arrives_and_none_is_invented(
    lab: Lab, databases: Databases, tmp_path: Path
) -> None:
    url = databases.for_journal()
    for number in range(KILLS):
        killed_at_work(lab, url, tmp_path, number)
    delivered_at_last(lab, url, tmp_path)
    lines = [
        line.split()
        for log in tmp_path.glob("*.log-of-worker")
        for line in log.read_text().splitlines()
    ]
    assert not [words for words in lines if words[0] == "E"]
    made: defaultdict[str, set[str]] = defaultdict(set)
    for words in lines:
        if words[0] == "R":
            made[words[1]].add(words[2])
    verdicts = {words[1]: words[2] for words in lines if words[0] == "T"}
    arrived = Counter(words[1] for words in lines if words[0] == "A")
    accepted = {one for one, outcome in verdicts.items() if outcome == "accepted"}
    deferred = {one for one, outcome in verdicts.items() if outcome == "deferred"}
    unknown = made.keys() - verdicts.keys()
    assert sum(len(made[one]) for one in accepted) >= EVENTS // 2
    must_arrive = {task for one in accepted for task in made[one]}
    may_arrive = must_arrive | {task for one in unknown for task in made[one]}
    assert must_arrive <= arrived.keys()
    assert arrived.keys() <= may_arrive
    assert not arrived.keys() & {task for one in deferred for task in made[one]}
    async with open_journal(url, tmp_path, clock=SystemClock()) as journal:
        kept = await states(journal)
        bounced = await bounces_with_task(journal)
        since, until = (SystemClock().now() - timedelta(days=day) for day in (1, 0))
        asked = EventQuery(grain=Grain.POINT, since=since, until=until)
        counted = await event_counts(journal.store, asked)
        in_force = await events_in_force(journal)
    assert sorted(in_force) == sorted(bounced)
    assert counted == EventCounts(hard_bounces=len(in_force))
    assert {state for _, state in kept} == {"sent"}
    assert {task for task, _ in kept} == arrived.keys()
    twice = sum(number > 1 for number in arrived.values())
    print(  # noqa: T201 - the figures are for people
        f"\n{len(arrived)} events, {KILLS} kills, {twice} arrived more than once"
    )
