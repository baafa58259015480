"""Processes that are killed in the middle of their work: no verdict was told without a row."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text

from smtpgate.clock import SystemClock
from smtpgate.journal.retention import GIVEN_UP
from tests.support.clock import MovableClock
from tests.support.daemons import Lab, eventually
from tests.support.databases import Databases
from tests.support.forks import Fork
from tests.support.journal import all_rows, must_add_up, open_journal, retention_of

KILLS: Final = int(os.environ.get("SMTPGATE_JOURNAL_KILLS", "4"))
_MESSAGES: Final = 150


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def killed_at_work(lab: Lab, url: str, folder: Path, number: int) -> None:
    log = folder / f"{number}.told"
    words = ("-m", "tests.support.journal_worker", url, folder, log)
    worker = Fork(*words, output=folder / f"{number}.log")
    lab.keep(worker)

    def has_told_enough() -> bool:
        assert worker.is_running, worker.output()
        return log.exists() and log.read_bytes().count(b"T ") >= _MESSAGES

    eventually(has_told_enough, "messages to be told")
    worker.kill()


async def test_no_verdict_was_told_without_its_row(
    lab: Lab, databases: Databases, tmp_path: Path
) -> None:
    url = databases.empty()
    for number in range(KILLS):
        killed_at_work(lab, url, tmp_path, number)
    lines = [
        line.split() for log in tmp_path.glob("*.told") for line in log.read_text().splitlines()
    ]
    at_upstream = {words[1] for words in lines if words[0] == "U"}
    told = {words[1]: words[2] for words in lines if words[0] == "T"}
    assert len(told) >= KILLS * _MESSAGES
    clock = MovableClock(SystemClock().now())
    async with open_journal(url, tmp_path, clock=clock) as journal:
        outcomes = {row.id: row.outcome for row in await all_rows(journal.store)}
        assert {one: outcomes.get(one) for one in told} == told
        assert at_upstream <= set(outcomes)
        left = {one for one, outcome in outcomes.items() if outcome == "relaying"}
        assert not left & set(told)
        await must_add_up(journal.store)
        clock.move(GIVEN_UP.total_seconds() + 1)
        retention = retention_of(journal, clock)
        await retention.round()
        outcomes = {row.id: row.outcome for row in await all_rows(journal.store)}
        assert {outcomes[one] for one in left} <= {"in-doubt"}
        await must_add_up(journal.store)
        async with journal.store.reading() as connection:
            if journal.store.database.is_sqlite:
                found = await connection.execute(text("PRAGMA integrity_check"))
                assert found.scalar_one() == "ok"
