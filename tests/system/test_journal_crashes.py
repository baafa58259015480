"""Processes that are killed at their work: no client got a verdict without a row."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text

from smtpgate.clock import SystemClock
from tests.support.daemons import Lab, eventually
from tests.support.databases import Databases
from tests.support.forks import Fork
from tests.support.journal import all_rows, must_add_up, open_journal

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

    def has_reported_enough() -> bool:
        assert worker.is_running, worker.output()
        return log.exists() and log.read_bytes().count(b"T ") >= _MESSAGES

    eventually(has_reported_enough, "messages to be told")
    worker.kill()


@pytest.mark.slow
async def test_no_verdict_was_reported_without_its_row(
    lab: Lab, databases: Databases, tmp_path: Path
) -> None:
    url = databases.for_journal()
    for number in range(KILLS):
        killed_at_work(lab, url, tmp_path, number)
    lines = [
        line.split() for log in tmp_path.glob("*.told") for line in log.read_text().splitlines()
    ]
    at_upstream = {words[1] for words in lines if words[0] == "U"}
    shown = {words[1]: words[2] for words in lines if words[0] == "T"}
    assert len(shown) >= KILLS * _MESSAGES
    async with open_journal(url, tmp_path, clock=SystemClock()) as journal:
        # Their open records are in doubt at once, since nobody else can complete them.
        outcomes = {row.id: row.outcome for row in await all_rows(journal.store)}
        assert {one: outcomes.get(one) for one in shown} == shown
        assert at_upstream <= set(outcomes)
        others = {outcome for one, outcome in outcomes.items() if one not in shown}
        assert others <= {"in-doubt", "accepted", "refused"}
        assert journal.tally.in_doubt <= len(outcomes) - len(shown)
        await must_add_up(journal.store)
        async with journal.store.reading() as connection:
            if journal.store.database.is_sqlite:
                found = await connection.execute(text("PRAGMA integrity_check"))
                assert found.scalar_one() == "ok"
