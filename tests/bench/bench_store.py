"""The cost of a message in the store of one host: medians in microseconds, printed, not judged.

Ledger and journal are SQLite files. ``begin`` and ``finish`` of each message are awaited, with
a pause between them that stands for the relay. CPU is this process's, all threads together.
``apart`` is the two of them with a thread each, as where one of them is elsewhere.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
import uvloop

from smtpgate.clock import SystemClock
from smtpgate.core.account import SendingLimits
from smtpgate.core.events import SubmissionDone
from smtpgate.core.limits import Charge
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ports import Store
from smtpgate.store.separate import SeparateStores
from tests.support.journal import journal_in, open_journal, submission
from tests.support.stores import open_host_store

pytestmark = pytest.mark.bench

MESSAGES: Final = 2000
ROUNDS: Final = 5
IN_FLIGHT: Final = (1, 4, 16, 64)
CLOCK: Final = SystemClock()
Open = Callable[[Path], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def apart(folder: Path) -> AsyncIterator[Store]:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    errors: list[BaseException] = []
    async with open_journal(journal_in(folder), folder, clock=CLOCK) as journal:
        yield SeparateStores(ledger, journal, on_error=errors.append)
        await ledger.close()
    assert not errors


def _event() -> SubmissionDone:
    event = submission(CLOCK)
    event.charges = (Charge(event.charges[0].subject, SendingLimits(10**9, 1e6)),)
    return event


@asynccontextmanager
async def together(folder: Path) -> AsyncIterator[Store]:
    async with open_host_store(folder, clock=CLOCK) as store:
        yield store


async def _send(store: Store, events: list[SubmissionDone], taken: list[float]) -> None:
    for event in events:
        started = time.perf_counter()
        begun = await store.begin(event, event.charges, event.submission.received_at)
        await asyncio.sleep(0)
        event.counted = 1
        await store.finish(event, begun.reservation, event.submission.received_at)
        taken.append(time.perf_counter() - started)


async def _round(store: Store, in_flight: int) -> tuple[float, float, float]:
    taken: list[float] = []
    events = [_event() for _ in range(MESSAGES)]
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(
        *(_send(store, events[at::in_flight], taken) for at in range(in_flight))
    )
    return (
        (time.process_time() - cpu) / MESSAGES * 1e6,
        (time.perf_counter() - wall) / MESSAGES * 1e6,
        statistics.median(taken) * 1e6,
    )


async def _measure(open_store: Open, in_flight: int) -> list[float]:
    with TemporaryDirectory() as folder:
        async with open_store(Path(folder)) as store:
            rounds = [await _round(store, in_flight) for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


@pytest.mark.parametrize("open_store", [apart, together], ids=lambda one: str(one.__name__))
def test_store(open_store: Open) -> None:
    print(f"\n  {'store':8} in flight       CPU   a message   one waits")
    for in_flight in IN_FLIGHT:
        cpu, wall, wait = uvloop.run(_measure(open_store, in_flight))
        print(f"  {open_store.__name__:8} {in_flight:9} {cpu:9.0f} {wall:11.0f} {wait:11.0f}")
