"""The cost of counting a message: reserve and commit, medians in microseconds, printed.

``µs`` is the time from one message to the next, all that are in flight taken together, and
``CPU`` this process's own share of it. ``limits`` is how many a message is counted against: the
account's, or also those of its user, access key and grant. Redis is measured where there is a
redis-server.
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
from smtpgate.core.limits import Charge, Subject, SubjectKind
from smtpgate.ports import Ledger
from tests.support.daemons import Lab
from tests.support.ledgers import (
    LedgerBackend,
    MemoryBackend,
    RedisBackend,
    SqliteBackend,
    redis_server,
)

pytestmark = pytest.mark.bench

LIMITS: Final = SendingLimits(10**9, 1e6)
CASES: Final = ((1, 1), (10, 1), (100_000, 1), (10, 4))  # accounts, limits
WITHIN: Final[tuple[tuple[SubjectKind, str], ...]] = (
    ("account", ""),
    ("user", "mailer"),
    ("access-key", "AKIAIOSFODNN7EXAMPLE"),
    ("identity", "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"),
)
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


async def _measure(backend: LedgerBackend, accounts: int, limits: int) -> list[str]:
    ledger = backend.open()
    charges = cycle(
        [
            [Charge(Subject(f"{number:012}", *whose), LIMITS) for whose in WITHIN[:limits]]
            for number in range(accounts)
        ]
    )
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
        backends: dict[str, LedgerBackend] = {
            "memory": MemoryBackend(),
            "sqlite": SqliteBackend(tmp_path / "ledger.sqlite"),
        }
        if shutil.which("redis-server"):
            backends["redis"] = RedisBackend(
                redis_server(stack.enter_context(Lab())).url, has_own_clock=True
            )
        print("\n  ledger  accounts limits        1 in flight           16 in flight")
        for name, backend in backends.items():
            for accounts, limits in CASES:
                cells = uvloop.run(_measure(backend, accounts, limits))
                print(f"  {name:7} {accounts:8,} {limits:6}  {cells[0]}   {cells[1]}")
