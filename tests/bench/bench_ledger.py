"""What counting costs a message: reserve and commit, medians in microseconds, printed.

``µs`` is the time from one message to the next, all that are in flight taken together, and
``CPU`` this process's own share of it. Redis is measured where there is a redis-server.
"""

import asyncio
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest
import uvloop

from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.ports import Ledger
from tests.support.daemons import Lab
from tests.support.ledgers import MemoryPlace, Place, RedisPlace, SqlitePlace, redis_server

pytestmark = pytest.mark.bench

LIMITS: Final = SendingLimits(10**9, 1e6)
ACCOUNTS: Final = (1, 10, 100_000)
IN_FLIGHT: Final = (1, 16)
MESSAGES: Final = 2_000
ROUNDS: Final = 5


async def _send(ledger: Ledger, charges: Iterator[list[Charge]], messages: int) -> None:
    for _ in range(messages):
        now = datetime.now(UTC)
        reservation = await ledger.reserve(next(charges), 1, now)
        await ledger.commit(reservation, 1, now)


async def _round(
    ledger: Ledger, charges: Iterator[list[Charge]], in_flight: int, messages: int
) -> tuple[float, float]:
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(
        *(_send(ledger, charges, messages // in_flight) for _ in range(in_flight))
    )
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    return took / messages * 1e6, cpu / messages * 1e6


async def _measure(place: Place, accounts: int) -> list[str]:
    ledger = place.open()
    subjects = (Subject(f"{number:012}") for number in range(accounts))
    charges = cycle([[Charge(subject, LIMITS)] for subject in subjects])
    await _round(ledger, charges, 250, max(accounts, 500))  # all of them have sent before
    cells = []
    for in_flight in IN_FLIGHT:
        rounds = [await _round(ledger, charges, in_flight, MESSAGES) for _ in range(ROUNDS)]
        wall, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        cells.append(f"{wall:7.1f} µs {cpu:7.1f} CPU")
    await ledger.close()
    return cells


def test_ledgers(tmp_path: Path) -> None:
    with ExitStack() as stack:
        places: dict[str, Place] = {
            "memory": MemoryPlace(),
            "sqlite": SqlitePlace(tmp_path / "ledger.sqlite"),
        }
        if shutil.which("redis-server"):
            places["redis"] = RedisPlace(redis_server(stack.enter_context(Lab())).url)
        print("\n  ledger  accounts        1 in flight           16 in flight")
        for name, place in places.items():
            for accounts in ACCOUNTS:
                cells = uvloop.run(_measure(place, accounts))
                print(f"  {name:7} {accounts:8,}  {cells[0]}   {cells[1]}")
