"""Four processes share a ledger and are killed again and again: the sums are exact afterwards.

``SMTPGATE_CRASH_RESERVATIONS`` says how many reservations; 100000 takes some minutes.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from redis import Redis

from smtpgate.ledger.redis import RedisLedger
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ports import Ledger
from tests.support.daemons import Lab, eventually
from tests.support.forks import Fork
from tests.support.ledger_worker import SUBJECTS
from tests.support.ledgers import redis_server, used_24h

WORKERS: Final = 4
RESERVATIONS: Final = int(os.environ.get("SMTPGATE_CRASH_RESERVATIONS", "2000"))
KILLS: Final = max(8, RESERVATIONS // 500)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


class Crowd:
    """Workers on one place, each started again when it is killed."""

    def __init__(self, lab: Lab, place: str) -> None:
        self.place = place
        self.folder = lab.new_folder("crowd")
        self.started = 0
        self.workers = [self._start() for _ in range(WORKERS)]
        self._sizes: dict[Path, tuple[int, int]] = {}
        lab.keep(self)

    def _start(self) -> Fork:
        self.started += 1
        log = self.folder / f"{self.started}.reported"
        worker = ("-m", "tests.support.ledger_worker", self.place, log, str(self.started))
        return Fork(*worker, output=self.folder / f"{self.started}.log")

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def kill_one(self, number: int) -> None:
        worker = self.workers[number % WORKERS]
        assert worker.is_running, worker.output()
        worker.kill()
        self.workers[number % WORKERS] = self._start()

    def reserved(self) -> int:
        """The number of reservations reported so far; only new lines are read."""
        total = 0
        for log in self.folder.glob("*.reported"):
            size, count = self._sizes.get(log, (0, 0))
            with log.open("rb") as file:
                file.seek(size)
                new = file.read()
            self._sizes[log] = size + len(new), count + new.count(b"R ")
            total += self._sizes[log][1]
        return total

    def reported(self) -> Iterator[list[str]]:
        for log in self.folder.glob("*.reported"):
            text = log.read_text()
            assert text.endswith("\n") or not text
            yield from (line.split() for line in text.splitlines())

    def run(self) -> None:
        for number in range(KILLS):
            wanted = RESERVATIONS * (number + 1) // KILLS
            eventually(lambda: self.reserved() >= wanted, f"{wanted} reservations", 120)  # noqa: B023
            self.kill_one(number)
        self.close()

    def expected(self, still_open: dict[int, int]) -> int:
        """The sum that follows from what was reported, and from what is still open."""
        reserved, accepted, done = dict[int, int](), dict[int, int](), set[int]()
        for kind, number, *rest in self.reported():
            if kind == "R":
                reserved[int(number)] = int(rest[0])
            elif kind == "S":
                accepted[int(number)] = int(rest[0])
            elif kind == "D":
                done.add(int(number))
            else:
                pytest.fail(f"a worker was reported: {number} {' '.join(rest)}")
        total = 0
        for one, recipients in reserved.items():
            # Killed while it settled: either it is settled now, or still open.
            has_ended = one in accepted and (one in done or one not in still_open)
            total += accepted[one] if has_ended else recipients
        # Counted, and killed before it was reported.
        return total + sum(n for one, n in still_open.items() if one not in reserved)


async def used(ledger: Ledger) -> list[int]:
    try:
        return [await used_24h(ledger, subject, datetime.now(UTC)) for subject in SUBJECTS]
    finally:
        await ledger.close()


@pytest.mark.slow
async def test_sqlite_counts_exactly_with_any_process_killed_at_any_time(lab: Lab) -> None:
    path = lab.folder / "ledger.sqlite"
    crowd = Crowd(lab, str(path))
    crowd.run()
    with closing(sqlite3.connect(path)) as file:
        still_open = dict(file.execute("SELECT id, recipients FROM reservation"))
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert await used(SqliteLedger(path)) == [crowd.expected(still_open)] * len(SUBJECTS)
    assert crowd.reserved() >= RESERVATIONS
    assert crowd.started == WORKERS + KILLS


@pytest.mark.integration
async def test_redis_counts_exactly_with_any_process_killed_at_any_time(lab: Lab) -> None:
    server = redis_server(lab)
    crowd = Crowd(lab, server.url)
    crowd.run()
    with Redis.from_url(server.url, decode_responses=True) as client:
        still_open = {
            int(key.rpartition(":")[2]): int(client.get(key).split()[1])
            for key in client.scan_iter("smtpgate:1:*:open:*", 1000)
        }
    assert await used(RedisLedger(server.url)) == [crowd.expected(still_open)] * len(SUBJECTS)
    assert crowd.reserved() >= RESERVATIONS
