"""The ledger's file when it is locked, damaged, gone, of another version, or of long ago."""

import asyncio
import gc
import sqlite3
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, LimitExceededError, Subject
from smtpgate.ledger import transactions
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ledger.sqlite_file import SCHEMA_VERSION
from smtpgate.ledger.transactions import LedgerTransactions, Reserve, Settle
from smtpgate.ports import LedgerUnavailableError
from smtpgate.sql.thread import BatchThread
from tests.support.ledgers import soon, used_24h
from tests.support.world import DELEGATE

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SUBJECT: Final = Subject(DELEGATE)
TEN: Final = [Charge(SUBJECT, SendingLimits(10, UNLIMITED))]
TIMEOUT_S: Final = 0.3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    opened = SqliteLedger(path, timeout_s=TIMEOUT_S)
    yield opened
    await opened.close()


@pytest.fixture
async def hasty(path: Path) -> AsyncIterator[SqliteLedger]:
    """A ledger that waits for other processes for a moment only."""
    work = LedgerTransactions(path, busy_timeout_s=0.03, lease_s=900)
    thread = BatchThread(work, "smtpgate-ledger")
    yield SqliteLedger(path, timeout_s=10, ask=thread.ask)
    await asyncio.to_thread(thread.stop, 10)


@contextmanager
def current(path: Path) -> Iterator[None]:
    """Another process that writes and does not end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def damage(path: Path, after: int = 0) -> None:
    """Overwrite all of it behind so many octets."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    octets = path.read_bytes()
    with path.open("r+b") as file_itself:
        file_itself.seek(after)
        file_itself.write(b"\xff" * (len(octets) - after))


def octets_of(path: Path) -> bytes:
    return path.read_bytes()


def written(path: Path) -> list[bytes]:
    """The file, and what was written since it was last brought up to date."""
    return [octets_of(path), octets_of(path.with_name(f"{path.name}-wal"))]


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as file:
        count: int = file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return count


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(statement)


async def used(ledger: SqliteLedger) -> int:
    return await used_24h(ledger, SUBJECT, NOW)


async def used_or_nothing(ledger: SqliteLedger) -> int | None:
    try:
        return await used(ledger)
    except LedgerUnavailableError:
        return None


async def test_a_locked_file_is_unavailable_in_time_and_then_in_use_again(
    hasty: SqliteLedger, path: Path
) -> None:
    await hasty.reserve(TEN, 1, NOW)
    loop = asyncio.get_running_loop()
    with current(path):
        started = loop.time()
        tries = [hasty.reserve(TEN, 1, NOW) for _ in range(20)]
        for outcome in await asyncio.gather(*tries, return_exceptions=True):
            assert isinstance(outcome, LedgerUnavailableError)
            assert str(path) in str(outcome)
        assert loop.time() - started < 5, "20 times the wait of one, and far below its 10 s"
    await soon(lambda: used_or_nothing(hasty), 1)
    await hasty.reserve(TEN, 9, NOW)


async def test_a_file_that_is_locked_for_a_while_is_waited_for(path: Path) -> None:
    ledger = SqliteLedger(path, timeout_s=10)
    await ledger.reserve(TEN, 1, NOW)
    with current(path):
        tries = [asyncio.ensure_future(ledger.reserve(TEN, 1, NOW)) for _ in range(5)]
        await asyncio.sleep(0.03)
        tries += [asyncio.ensure_future(ledger.reserve(TEN, 1, NOW)) for _ in range(4)]
        await asyncio.sleep(0.03)
        assert not any(one.done() for one in tries)
    found = await asyncio.gather(*tries)
    assert sorted(one.used for one in found) == [(number,) for number in range(2, 11)]
    await ledger.close()


async def test_a_probe_counts_nothing_and_needs_the_lock(
    hasty: SqliteLedger, path: Path
) -> None:
    await hasty.probe()
    assert (rows(path, "usage"), rows(path, "reservation")) == (0, 0)
    with current(path), pytest.raises(LedgerUnavailableError, match=r"locked|no answer"):
        await hasty.probe()
    await soon(lambda: used_or_nothing(hasty), 0)
    await hasty.probe()


async def test_a_look_waits_for_nobody_who_writes_and_writes_nothing(
    ledger: SqliteLedger, path: Path
) -> None:
    await ledger.reserve(TEN, 10, NOW)
    with current(path):
        (limit_status,) = await ledger.limit_statuses(TEN, NOW)
        assert (limit_status.used_24h, limit_status.left) == (10, 0)
        with pytest.raises(LimitExceededError):
            await ledger.check(TEN, NOW)
        assert await used(ledger) == 10
    before = written(path)
    await ledger.limit_statuses(TEN, NOW + timedelta(days=3))
    assert written(path) == before


async def test_what_is_refunded_while_the_file_is_locked_is_given_back_afterwards(
    hasty: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, refunded, partly = [await hasty.reserve(TEN, 3, NOW) for _ in range(3)]
    monkeypatch.setattr(transactions, "_RETRY_S", 0.01)
    with current(path):
        await hasty.commit(kept, 3, NOW)
        await hasty.refund(refunded, NOW)
        assert await hasty.commit(partly, 1, NOW) == ()
    await soon(lambda: used_or_nothing(hasty), 4)
    assert rows(path, "reservation") == 0


async def test_thresholds_that_could_not_be_reported_are_reported_by_the_next_message(
    hasty: SqliteLedger, path: Path
) -> None:
    reserved = await hasty.reserve(TEN, 8, NOW)
    with current(path):
        assert await hasty.commit(reserved, 8, NOW) == ()
    await soon(lambda: used_or_nothing(hasty), 8)
    another = await hasty.reserve(TEN, 1, NOW)
    reported = await hasty.commit(another, 1, NOW)
    assert [crossing.percent for crossing in reported] == [80, 90]


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_damaged_file_is_unavailable_until_it_is_taken_away(
    ledger: SqliteLedger, path: Path, is_open: bool
) -> None:
    other = SqliteLedger(path, timeout_s=TIMEOUT_S)
    await other.reserve(TEN, 1, NOW)
    if is_open:
        await ledger.reserve(TEN, 1, NOW)
    await other.close()
    if is_open:
        damage(path, after=100)
    else:
        damage(path)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match=r"malformed|not a database"):
            await ledger.reserve(TEN, 1, NOW)
    for part in path.parent.glob("ledger.sqlite*"):
        part.unlink()
    await ledger.reserve(TEN, 10, NOW)
    assert await used(ledger) == 10


async def test_a_row_that_makes_no_sense_is_an_error_until_it_is_taken_away(
    ledger: SqliteLedger, path: Path
) -> None:
    await ledger.reserve(TEN, 1, NOW)
    execute(path, "UPDATE usage SET as_of_us = 'never'")
    for _ in range(2):
        with pytest.raises(TypeError):
            await ledger.reserve(TEN, 1, NOW)
    execute(path, "DELETE FROM usage")
    await ledger.reserve(TEN, 10, NOW)
    assert await used(ledger) == 10


async def test_a_sum_that_is_not_that_of_the_counts_is_made_again(
    ledger: SqliteLedger, path: Path
) -> None:
    await ledger.reserve(TEN, 3, NOW)
    execute(path, "UPDATE usage SET used = 1")
    assert await used(ledger) == 3
    await ledger.reserve(TEN, 7, NOW)
    assert await used(ledger) == 10


async def test_a_file_that_was_taken_away_is_made_again_by_all(
    ledger: SqliteLedger, path: Path
) -> None:
    other = SqliteLedger(path, timeout_s=TIMEOUT_S)
    for one in (ledger, other):
        await one.reserve(TEN, 4, NOW)
    for part in path.parent.glob("ledger.sqlite*"):
        part.unlink()
    for one in (ledger, other):
        await one.reserve(TEN, 3, NOW)
    assert await used(ledger) == 6
    with pytest.raises(LimitExceededError):
        await other.reserve(TEN, 5, NOW)
    await other.close()


async def test_the_file_of_version_1_keeps_its_counts(ledger: SqliteLedger, path: Path) -> None:
    await ledger.reserve(TEN, 4, NOW)
    await ledger.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("ALTER TABLE usage RENAME COLUMN reported TO thresholds")
        file.execute("PRAGMA user_version = 1")
    newer = SqliteLedger(path, timeout_s=TIMEOUT_S)
    await newer.reserve(TEN, 3, NOW)
    assert await used(newer) == 7
    await newer.close()


async def test_the_file_of_a_newer_version_is_left_alone(
    ledger: SqliteLedger, path: Path
) -> None:
    await ledger.reserve(TEN, 1, NOW)
    await ledger.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    newer = SqliteLedger(path, timeout_s=TIMEOUT_S)
    words = (
        f"{path} has schema {SCHEMA_VERSION + 1}, and this version of smtpgate knows "
        f"{SCHEMA_VERSION}; run the newer one, or move the file away to count from 0"
    )
    with pytest.raises(LedgerUnavailableError) as refusal:
        await newer.reserve(TEN, 1, NOW)
    assert str(refusal.value) == f"{path}: {words}"
    await newer.close()
    assert rows(path, "usage") == 1


async def test_a_database_of_something_else_is_left_alone(
    ledger: SqliteLedger, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE accounts (id)")
    before = octets_of(path)
    with pytest.raises(LedgerUnavailableError, match="is a database of something else"):
        await ledger.reserve(TEN, 1, NOW)
    await ledger.close()
    assert octets_of(path) == before


async def test_many_can_make_the_file_at_once(path: Path) -> None:
    ledgers = [SqliteLedger(path, timeout_s=10) for _ in range(8)]
    await asyncio.gather(*(one.reserve(TEN, 1, NOW) for one in ledgers))
    assert await used(ledgers[0]) == 8
    await asyncio.gather(*(one.close() for one in ledgers))


async def test_rows_that_matter_no_longer_go_away_a_few_at_a_time(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_SWEPT_AFTER", 16)
    for number in range(100):
        await ledger.reserve([Charge(Subject(f"{number:012}"), TEN[0].limits)], 1, NOW)
    assert (rows(path, "usage"), rows(path, "reservation")) == (100, 100)
    later = NOW + timedelta(days=2, minutes=1)
    numbers = [101]
    for _ in range(60):
        await ledger.refund(await ledger.reserve(TEN, 1, later), later)
        numbers.append(rows(path, "usage"))
    assert numbers[-1] == 1
    assert max(before - after for before, after in pairwise(numbers)) <= 32
    assert rows(path, "reservation") == 0


async def test_what_another_process_counted_meanwhile_is_counted_too(
    ledger: SqliteLedger, path: Path
) -> None:
    other = SqliteLedger(path, timeout_s=TIMEOUT_S)
    for used_before in range(0, 8, 2):  # each begins with rows that the other has changed
        assert (await ledger.reserve(TEN, 1, NOW)).used == (used_before + 1,)
        assert (await other.reserve(TEN, 1, NOW)).used == (used_before + 2,)
    assert rows(path, "reservation") == 8
    await other.reserve(TEN, 2, NOW)
    with pytest.raises(LimitExceededError):
        await ledger.reserve(TEN, 1, NOW)
    execute(path, "DELETE FROM usage")
    assert (await ledger.reserve(TEN, 1, NOW)).used == (1,), "nor is a refusal assumed"
    execute(path, "DELETE FROM usage")
    assert (await ledger.reserve(TEN, 1, NOW)).used == (1,)
    await other.close()


async def test_reservations_are_closed_together_or_in_an_idle_moment(
    ledger: SqliteLedger, path: Path
) -> None:
    charges = [Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED))]
    open_ones = list[int]()
    for _ in range(2 * transactions._CLOSED_TOGETHER):
        reservation = await ledger.reserve(charges, 1, NOW)
        await ledger.commit(reservation, 1, NOW)
        open_ones.append(rows(path, "reservation"))
    assert max(open_ones) <= transactions._CLOSED_TOGETHER + 1

    async def are_open() -> int:
        return rows(path, "reservation")

    await soon(are_open, 0)
    assert await used(ledger) == len(open_ones)


async def test_a_closed_ledger_counts_no_more(ledger: SqliteLedger, path: Path) -> None:
    reservation = await ledger.reserve(TEN, 1, NOW)
    await ledger.commit(reservation, 1, NOW)
    await ledger.close()
    assert rows(path, "reservation") == 0, "what was owed is done before the end"
    with pytest.raises(LedgerUnavailableError, match="closed"):
        await ledger.reserve(TEN, 1, NOW)


async def test_all_that_is_owed_is_done_before_the_end_however_much_it_is(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.ledger.transactions._MAX_OWED_AT_ONCE", 2)
    charges = [Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED))]
    for reservation in [await ledger.reserve(charges, 1, NOW) for _ in range(9)]:
        await ledger.commit(reservation, 1, NOW)
    assert rows(path, "reservation") == 9
    await ledger.close()
    assert rows(path, "reservation") == 0


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_what_is_closed_is_owed_no_longer(
    path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("smtpgate.ledger.transactions._MAX_OWED_AT_ONCE", at_once)
    work = LedgerTransactions(path, busy_timeout_s=1, lease_s=900)

    def run(*requests: Reserve | Settle) -> list[Any]:
        return work.run(requests, lambda _at: False)

    charges = (Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED)),)
    reserved = run(*(Reserve(number, charges, 1, NOW) for number in (1, 2)))
    run(*(Settle(one, 1, NOW) for one in reserved))
    assert (rows(path, "reservation"), work.wait_s is None) == (2, False)
    run()
    assert (rows(path, "reservation"), work.wait_s is None) == (
        2 - min(at_once, 2),
        at_once > 1,
    )
    work.close()


def test_what_another_thread_owes_at_any_moment_is_done(path: Path) -> None:
    work = LedgerTransactions(path, busy_timeout_s=1, lease_s=900)
    charges = (Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED)),)
    reservations = work.run(
        [Reserve(number, charges, 1, NOW) for number in range(200)], lambda _at: False
    )
    left = [Settle(one, 0, NOW) for one in reservations]

    def owe_one(frame: FrameType, _event: str, _: object) -> Callable[..., Any]:
        """As a thread that the interpreter lets run between two lines."""
        if left and frame.f_code.co_filename == transactions.__file__:
            work.owe(left.pop())
        return owe_one

    tracing = sys.gettrace()
    sys.settrace(owe_one)
    try:
        while left:
            work.run((), lambda _at: False)
    finally:
        sys.settrace(tracing)
    work.close()
    assert rows(path, "reservation") == 0


def test_the_answers_of_a_transaction_with_a_defect_are_freed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DefectError(Exception):
        pass

    def fail(*_: object) -> None:
        raise DefectError

    work = LedgerTransactions(path, busy_timeout_s=1, lease_s=900)
    charges = (Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED)),)
    for place in ("_reserve", "_carry_out"):
        with monkeypatch.context() as patch:
            patch.setattr(LedgerTransactions, place, fail)
            (error,) = work.run([Reserve(1, charges, 1, NOW)], lambda _at: False)
        assert isinstance(error, DefectError)
        answer = weakref.ref(error)
        del error
        gc.collect()
        assert answer() is None
    work.close()


def test_usage_is_read_once_and_written_only_with_a_change(path: Path) -> None:
    work = LedgerTransactions(path, busy_timeout_s=1, lease_s=900)
    steps: list[str] = []

    def reserve(number: int, recipients: int) -> list[str]:
        """The statements that ask for or change usage."""
        steps.clear()
        work.run([Reserve(number, tuple(TEN), recipients, NOW)], lambda _at: False)
        words = [step.split() for step in steps if " usage" in step]
        return [word for word, *_ in words]

    assert reserve(1, 3) == []
    assert work._file is not None
    work._file._connection.set_trace_callback(steps.append)
    assert reserve(2, 4) == ["UPDATE"]
    assert reserve(3, 4) == ["SELECT"]  # it is refused, for what is still so
    assert reserve(4, 3) == ["UPDATE"]
    work.close()
