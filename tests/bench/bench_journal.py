"""The cost of a message in the journal: medians in microseconds, printed, not judged.

``begin`` and ``finish`` of each message are awaited, as the pipeline does. CPU is this
process's, all threads together; the wait is that of one message from begin to the end of
finish. ``SMTPGATE_BENCH_FOLDER`` puts the file on another disk than that of /tmp.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from smtpgate.clock import SystemClock
from smtpgate.core.events import SubmissionDone
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.rows import record_of, row_of, with_verdict
from tests.bench.large_journal import measure, show
from tests.support.journal import journal_in, open_journal, submission
from tests.support.records import submission_record

pytestmark = pytest.mark.bench

MESSAGES: Final = 2000
ROUNDS: Final = 5
CLOCK: Final = SystemClock()


async def _send(journal: LiveJournal, events: list[SubmissionDone], taken: list[float]) -> None:
    for event in events:
        started = time.perf_counter()
        await journal.begin(event)
        await journal.finish(event)
        taken.append(time.perf_counter() - started)


async def _round(journal: LiveJournal, in_flight: int) -> tuple[float, float, float]:
    """CPU and wall time of a message, and the median wait, in microseconds."""
    taken: list[float] = []
    events = [submission(CLOCK) for _ in range(MESSAGES)]
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(
        *(_send(journal, events[at::in_flight], taken) for at in range(in_flight))
    )
    return (
        (time.process_time() - cpu) / MESSAGES * 1e6,
        (time.perf_counter() - wall) / MESSAGES * 1e6,
        statistics.median(taken) * 1e6,
    )


@pytest.mark.parametrize("in_flight", [1, 4, 32])
async def test_begin_and_finish(in_flight: int) -> None:
    place = os.environ.get("SMTPGATE_BENCH_FOLDER")
    with TemporaryDirectory(prefix="smtpgate-", dir=place) as name:
        folder = Path(name)
        async with open_journal(journal_in(folder), folder, clock=CLOCK) as journal:
            await _round(journal, in_flight)
            before = journal.tally.commits
            rounds = [await _round(journal, in_flight) for _ in range(ROUNDS)]
            commits = (journal.tally.commits - before) / (ROUNDS * MESSAGES)
        octets = sum(path.stat().st_size for path in folder.glob("journal.sqlite"))
    cpu, wall, wait = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"\n{in_flight:3} in flight: CPU {cpu:5.0f} µs, wall {wall:5.0f} µs a message, "
        f"median wait {wait:5.0f} µs, {commits:.2f} commits a message, "
        f"{octets / ((ROUNDS + 1) * MESSAGES):.0f} octets a message"
    )


async def test_searches(tmp_path: Path) -> None:
    """The short form of ``large_journal``: every search finds what was written."""
    figures = await measure(tmp_path, 3000)
    show({3000: figures})
    found = {name: number for name, (_, _, number) in figures.items()}
    assert found["user, of a busy account"] == found["identity, by ARN"] == 100
    assert found["one record, by id"] == found["reason, one record"] == 1
    assert not any(number for name, number in found.items() if "unknown" in name)


def _show(note: str, work: Callable[[], object]) -> None:
    taken: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(500):
            work()
        taken.append((time.perf_counter() - started) / 500)
    print(f"  {note:20} {statistics.median(taken) * 1e6:6.1f} µs")


def test_rows() -> None:
    event = submission(CLOCK)
    record = submission_record(event, keep_recipients=True, keep_subject=False)
    row, texts = row_of(record)
    print()
    _show(
        "event to record",
        lambda: submission_record(event, keep_recipients=True, keep_subject=False),
    )
    _show("record to row", lambda: row_of(record))
    _show("verdict", lambda: with_verdict(row, record.verdict))
    _show("row to record", lambda: record_of(with_verdict(row, record.verdict), texts))
