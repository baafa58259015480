"""A journal that cannot be written: the replies, the records that are owed, the recovery."""

import asyncio
import contextlib
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from msgspec import structs
from msgspec.structs import replace
from sqlalchemy import text

from smtpgate.config.sections import JournalConfig
from smtpgate.core.events import JournalChanged, RecordsLost, RetentionChanged
from smtpgate.core.history.search import Search
from smtpgate.core.history.usage import Grain
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.statements import Entry
from smtpgate.journal.terms import read_key
from smtpgate.journal.usage_query import UsageQuery, usage_rows
from smtpgate.ports import JournalUnavailableError
from smtpgate.sql import engines
from smtpgate.sql.batches import UnfitRowsError
from tests.support.clock import MovableClock
from tests.support.events import auth_failed
from tests.support.journal import (
    WITH_TERMS,
    Breakable,
    Received,
    all_rows,
    journal_in,
    must_add_up,
    open_journal,
    retention_of,
    submission,
)
from tests.support.waiting import until

pytestmark = pytest.mark.slow

NOT_OPENED: Final = "cannot be opened"


@pytest.fixture
def received() -> Received:
    return Received()


@pytest.fixture
def file(tmp_path: Path) -> Breakable:
    return Breakable(tmp_path / "journal.sqlite")


@pytest.fixture
async def journal(
    tmp_path: Path, clock: MovableClock, received: Received
) -> AsyncIterator[LiveJournal]:
    url = journal_in(tmp_path)
    async with open_journal(url, tmp_path, clock=clock, received=received) as opened:
        yield opened


async def attempts(journal: LiveJournal, clock: MovableClock) -> dict[str, int]:
    """The number of attempts in usage, by reason."""
    asked = UsageQuery(grain=Grain.DAY, since=clock.now(), until=clock.now())
    rows = await usage_rows(journal.store, asked)
    return {row.key.reason: row.counts.attempts for row in rows}


def changes(received: Received) -> list[JournalChanged]:
    return [event for event in received.events if isinstance(event, JournalChanged)]


def losses(received: Received) -> list[RecordsLost]:
    return [event for event in received.events if isinstance(event, RecordsLost)]


async def fill(journal: LiveJournal, clock: MovableClock) -> None:
    for _ in range(100):
        await journal.finish(submission(clock))


async def test_what_cannot_be_begun_is_not_there_and_is_reported_once(
    journal: LiveJournal, clock: MovableClock, received: Received, file: Breakable
) -> None:
    file.break_()
    for _ in range(3):
        with pytest.raises(JournalUnavailableError, match=NOT_OPENED):
            await journal.begin(submission(clock))
    assert journal.check() == (False, journal.problem)
    (output,) = changes(received)
    assert output.problem is not None
    assert NOT_OPENED in output.problem
    file.mend()
    await journal.writer.retry()
    assert changes(received)[1] == JournalChanged(None, 0, clock.now())
    assert journal.check() == (True, "open")
    await journal.begin(submission(clock))
    assert len(await all_rows(journal.store)) == 1


async def test_a_journal_that_is_not_needed_stands_in_nobody_s_way(
    tmp_path: Path, clock: MovableClock, file: Breakable
) -> None:
    settings = JournalConfig(on_failure="allow")
    url = journal_in(tmp_path)
    async with open_journal(url, tmp_path, clock=clock, settings=settings) as journal:
        file.break_()
        with pytest.raises(JournalUnavailableError):
            await journal.begin(submission(clock))
        holds, says = journal.check()
        assert holds
        assert NOT_OPENED in says
        file.mend()


async def test_one_that_is_not_needed_may_be_there_later_than_the_gate(
    tmp_path: Path, clock: MovableClock, received: Received
) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    settings = JournalConfig(on_failure="allow")
    url = journal_in(tmp_path)
    async with open_journal(
        url, tmp_path, clock=clock, settings=settings, received=received
    ) as journal:
        event = submission(clock)
        with pytest.raises(JournalUnavailableError):
            await journal.finish(event)
        (tmp_path / "journal.sqlite").rmdir()
        await journal.writer.retry()
        (row,) = await all_rows(journal.store)
        assert (row.id, row.outcome) == (event.submission.message_id, "accepted")
        # It can be found with the key that is in the file now.
        reader = JournalReader(journal.store, read_key(journal.store.key_file))
        search = reader.search(Search(address="jane0@example.net"), clock.now())
        assert [one.id async for one in search] == [row.id]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("short")])
async def test_no_key_is_made_in_place_of_the_one_that_a_journal_may_have(
    tmp_path: Path, clock: MovableClock, file: Breakable, damage: Callable[[Path], object]
) -> None:
    url, key_file = journal_in(tmp_path), tmp_path / "journal.key"
    async with open_journal(url, tmp_path, clock=clock):
        key = key_file.read_bytes()
    file.break_()
    damage(key_file)
    was_there = key_file.exists()
    settings = JournalConfig(on_failure="allow")
    async with open_journal(url, tmp_path, clock=clock, settings=settings) as journal:
        file.mend()
        with pytest.raises(JournalUnavailableError, match=r"journal\.key: .*put it back"):
            await journal.writer.retry()
        assert key_file.exists() == was_there
        key_file.write_bytes(key)
        with pytest.raises(JournalUnavailableError, match="start it again"):
            await journal.writer.retry()


async def test_nothing_is_written_with_another_key_than_the_journal_s(
    tmp_path: Path, clock: MovableClock
) -> None:
    url, key_file = journal_in(tmp_path), tmp_path / "journal.key"
    async with open_journal(url, tmp_path, clock=clock):
        key = key_file.read_bytes()
    key_file.write_text("A" * 43 + "=\n")
    settings = JournalConfig(on_failure="allow")
    async with open_journal(url, tmp_path, clock=clock, settings=settings) as journal:
        for kept, problem in (
            (key_file.read_bytes(), "is not the key that the journal"),
            (key, "is not the key that the gate was started with; start it again"),
        ):
            key_file.write_bytes(kept)
            with pytest.raises(JournalUnavailableError, match=problem):
                await journal.writer.retry()
        with pytest.raises(JournalUnavailableError):
            await journal.finish(submission(clock))
    async with open_journal(url, tmp_path, clock=clock) as journal:
        assert await all_rows(journal.store) == []
        await journal.finish(submission(clock))


async def test_one_that_is_needed_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(JournalUnavailableError, match=NOT_OPENED):
        async with open_journal(journal_in(tmp_path), tmp_path):
            pass


async def test_a_verdict_that_could_not_be_written_is_written_later(
    journal: LiveJournal, clock: MovableClock, received: Received, file: Breakable
) -> None:
    event = submission(clock)
    await journal.begin(event)
    file.break_()
    with pytest.raises(JournalUnavailableError):
        await journal.finish(event)
    assert journal.owed == 1
    file.mend()
    (row,) = await all_rows(journal.store)
    assert row.outcome == "relaying"
    await journal.writer.retry()
    assert journal.owed == 0
    (row,) = await all_rows(journal.store)
    assert row.outcome == "accepted"
    assert await attempts(journal, clock) == {"accepted": 1}
    failed, again = changes(received)
    assert (failed.records, again) == (1, JournalChanged(None, 1, clock.now()))


async def test_a_verdict_whose_sync_fails_is_written_again_and_counted_once(
    journal: LiveJournal,
    clock: MovableClock,
    received: Received,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    event, other = submission(clock), submission(clock)
    await journal.begin(event)
    failing = [OSError(errno.EIO, "Input/output error")]

    def sync(descriptor: int) -> None:
        if failing:
            raise failing.pop()
        os.fsync(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    for outcome in await asyncio.gather(
        journal.finish(event), journal.begin(other), return_exceptions=True
    ):
        assert isinstance(outcome, JournalUnavailableError)
        assert "Input/output error" in str(outcome)
    other.outcome, other.reason = "deferred", "journal-unavailable"
    with pytest.raises(JournalUnavailableError):
        await journal.finish(other)
    assert journal.owed == 2
    await journal.writer.retry()
    assert [row.outcome for row in await all_rows(journal.store)] == ["accepted", "deferred"]
    assert await attempts(journal, clock) == {"accepted": 1, "journal-unavailable": 1}
    await must_add_up(journal.store, clock.now())
    assert (losses(received), received.errors) == ([], [])


async def test_who_gave_up_waiting_has_its_verdict_written_all_the_same(
    journal: LiveJournal, clock: MovableClock, file: Breakable
) -> None:
    event = submission(clock)
    file.break_()
    task = asyncio.ensure_future(journal.finish(event))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(JournalUnavailableError):
        await journal.begin(submission(clock))
    file.mend()
    await journal.writer.retry()
    assert [row.id for row in await all_rows(journal.store)] == [event.submission.message_id]


async def test_of_a_submission_that_is_owed_twice_the_last_word_counts(
    journal: LiveJournal, clock: MovableClock, file: Breakable
) -> None:
    file.break_()
    event = submission(clock, "refused", "explicit-deny")
    for outcome, reason in (("refused", "explicit-deny"), ("deferred", "journal-unavailable")):
        event.outcome, event.reason = outcome, reason  # type: ignore[assignment]
        with pytest.raises(JournalUnavailableError):
            await journal.finish(event)
    assert journal.owed == 1
    file.mend()
    await journal.writer.retry()
    (row,) = await all_rows(journal.store)
    assert row.reason == "journal-unavailable"
    assert await attempts(journal, clock) == {"journal-unavailable": 1}


async def test_a_record_whose_transaction_ended_unseen_is_not_counted_twice(
    journal: LiveJournal, clock: MovableClock
) -> None:
    await journal.finish(submission(clock))
    (row,) = await all_rows(journal.store)
    journal.writer.owe(Entry(row=row, texts={}, early_terms=b""))
    await journal.writer.retry()
    assert await all_rows(journal.store) == [row]
    assert await attempts(journal, clock) == {"accepted": 1}
    # Of the same record another verdict: the one before it is counted no longer.
    other = replace(row, outcome="in-doubt", reason="in-doubt")
    journal.writer.owe(Entry(row=other, texts={}, early_terms=b""))
    await journal.writer.retry()
    assert await attempts(journal, clock) == {"in-doubt": 1}


async def test_more_than_can_be_owed_is_lost_and_reported(
    journal: LiveJournal,
    clock: MovableClock,
    received: Received,
    file: Breakable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtpgate.journal.writer._MAX_OWED", 2)
    file.break_()
    events = [submission(clock) for _ in range(3)]
    for event in events:
        with pytest.raises(JournalUnavailableError):
            await journal.finish(event)
    assert (journal.owed, journal.tally.lost) == (2, 1)
    assert [event.records for event in losses(received)] == [1]
    file.mend()
    await journal.writer.retry()
    assert {row.id for row in await all_rows(journal.store)} == {
        event.submission.message_id for event in events[1:]
    }


async def test_what_is_owed_when_the_gate_ends_is_lost_and_reported(
    tmp_path: Path, clock: MovableClock, received: Received, file: Breakable
) -> None:
    async with open_journal(
        journal_in(tmp_path), tmp_path, clock=clock, received=received
    ) as journal:
        await journal.finish(submission(clock))
        file.break_()
        for _ in range(2):
            with pytest.raises(JournalUnavailableError):
                await journal.finish(submission(clock))
    (lost,) = losses(received)
    assert lost.records == 2
    assert NOT_OPENED in lost.problem
    file.mend()


async def test_what_is_owed_when_the_gate_ends_is_written_if_it_can_be(
    tmp_path: Path, clock: MovableClock, received: Received, file: Breakable
) -> None:
    url = journal_in(tmp_path)
    async with open_journal(url, tmp_path, clock=clock, received=received) as journal:
        file.break_()
        with pytest.raises(JournalUnavailableError):
            await journal.finish(submission(clock))
        file.mend()
    assert losses(received) == []
    async with open_journal(url, tmp_path, clock=clock) as journal:
        assert len(await all_rows(journal.store)) == 1


@pytest.mark.slow
async def test_what_still_waits_when_the_gate_ends_is_reported_and_nobody_waits_on(
    tmp_path: Path, clock: MovableClock, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.journal.writer._MAX_GROUP", 1)
    monkeypatch.setattr("smtpgate.journal.writer._COMMIT_S", 0.05)
    monkeypatch.setattr(engines, "BUSY_S", 0.5)
    with contextlib.closing(
        sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    ) as other:
        async with open_journal(
            journal_in(tmp_path), tmp_path, clock=clock, received=received
        ) as journal:
            other.execute("BEGIN IMMEDIATE")
            calls = (journal.finish, journal.begin, journal.finish, journal.finish)
            operations = [asyncio.ensure_future(call(submission(clock))) for call in calls]
            await asyncio.sleep(0)
        assert all(operation.done() for operation in operations)
        output = [operation.exception() for operation in operations]
        other.execute("ROLLBACK")
    assert {type(one) for one in output} == {JournalUnavailableError}
    assert sum(event.records for event in losses(received)) == 3


async def test_one_record_that_no_database_takes_spoils_nothing_for_the_others(
    journal: LiveJournal, clock: MovableClock, received: Received
) -> None:
    await journal.finish(submission(clock))
    (row,) = await all_rows(journal.store)
    whole = [replace(row, id=f"0100{number:012x}") for number in range(5)]
    unfit = replace(row, id="0100-unfit", facts="\ud800")
    output = await asyncio.gather(
        *(
            journal.writer.put(Entry(row=one, texts={}, early_terms=b""))
            for one in (*whole[:2], unfit, *whole[2:])
        ),
        return_exceptions=True,
    )
    assert [one is None for one in output] == [True, True, False, True, True, True]
    assert isinstance(output[2], UnfitRowsError)
    assert len(await all_rows(journal.store)) == 6
    assert journal.problem is None
    assert journal.tally.lost == 1
    assert [type(error) for error in received.errors] == [UnfitRowsError]


async def test_a_file_that_was_taken_away_is_made_again(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path
) -> None:
    before, under_way = submission(clock), submission(clock)
    await journal.finish(before)
    await journal.begin(under_way)
    for path in tmp_path.glob("journal.sqlite*"):
        path.rename(path.with_name(path.name.replace("journal", "old")))
    with pytest.raises(JournalUnavailableError, match="no such table"):
        await journal.finish(under_way)
    await journal.writer.retry()
    (row,) = await all_rows(journal.store)
    assert (row.id, row.outcome) == (under_way.submission.message_id, "accepted")
    assert (tmp_path / "journal.sqlite").stat().st_mode & 0o777 == 0o600
    # The statements' texts are in it too, though they were written to the old file before.
    reader = JournalReader(journal.store, journal.store.key())
    kept = await reader.get(row.id)
    assert kept is not None
    assert kept.decision is not None
    assert all(cited.text for cited in kept.decision.determining)


async def test_a_damaged_file_is_reported_and_another_one_takes_its_place(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    for _ in range(50):
        await journal.finish(submission(clock))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = path.stat().st_size
    with path.open("r+b") as octets:
        octets.seek(4096)
        octets.write(b"\xa5" * (size - 4096))
    with pytest.raises(JournalUnavailableError, match="is damaged"):
        await fill(journal, clock)
    with pytest.raises(JournalUnavailableError):
        await journal.writer.retry()
    for found in tmp_path.glob("journal.sqlite*"):
        found.unlink()
    await journal.writer.retry()
    assert journal.problem is None
    await journal.finish(submission(clock))
    assert len(await all_rows(journal.store)) >= 1


async def test_a_file_that_another_process_locks_is_waited_for_and_then_reported(
    tmp_path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_S", 0.05)
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as journal:
        await journal.finish(submission(clock))
        other = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailableError, match="is busy with another change"):
            await journal.begin(submission(clock))
        with pytest.raises(JournalUnavailableError):
            await journal.writer.retry()
        other.execute("ROLLBACK")
        other.close()
        await journal.writer.retry()
        await journal.begin(submission(clock))
        assert len(await all_rows(journal.store)) == 2


async def test_a_full_file_takes_nothing_until_there_is_room(
    tmp_path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as journal:
        await journal.finish(submission(clock))
    pages = path.stat().st_size // 4096
    settings = (*engines._SETTINGS, f"PRAGMA max_page_count={pages + 2}")
    monkeypatch.setattr(engines, "_SETTINGS", settings)
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as journal:
        with pytest.raises(JournalUnavailableError, match="database or disk is full"):
            await fill(journal, clock)
        passed = journal.tally.records + 1
        refused = submission(clock)
        with pytest.raises(JournalUnavailableError):
            await journal.begin(refused)
        assert len(await all_rows(journal.store)) == passed
        assert (await attempts(journal, clock))["accepted"] == passed


@pytest.mark.slow
async def test_old_records_go_in_steps_while_others_are_written(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as journal:
        await asyncio.gather(*(journal.finish(submission(clock)) for _ in range(1500)))
        clock.move(31 * 86400)
        written = asyncio.Event()

        async def send() -> int:
            number = 0
            while not written.is_set():
                event = submission(clock)
                await journal.begin(event)
                await journal.finish(event)
                number += 1
            return number

        sending = asyncio.gather(*(send() for _ in range(16)))
        retention = retention_of(journal, clock)
        await retention.round()
        written.set()
        number = sum(await sending)
        rows = await all_rows(journal.store)
        assert number == len(rows) > 100
        assert all(row.outcome == "accepted" for row in rows)
        assert retention.size.records >= number - 16  # those in flight just then


@pytest.mark.slow
async def test_the_oldest_go_when_everything_together_is_too_much(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as journal:
        for _ in range(8):
            await asyncio.gather(*(journal.finish(submission(clock)) for _ in range(200)))
            clock.move(60)
        ids = [row.id for row in await all_rows(journal.store)]
        retention = retention_of(journal, clock, max_octets=1_000_000)
        for _ in range(2):
            await retention.round()
        left = [row.id for row in await all_rows(journal.store)]
        assert 0 < len(left) < len(ids)
        assert left == ids[-len(left) :]
        assert retention.size.octets < 1_000_000
        async with journal.store.reading() as connection:
            found = await connection.execute(text(f"SELECT min(id) FROM ({WITH_TERMS})"))
            assert found.scalar_one() == left[0]
        before = len(left)
        await retention.round()
        assert len(await all_rows(journal.store)) == before


async def test_a_step_that_fails_is_taken_in_the_next_round(
    journal: LiveJournal, clock: MovableClock, file: Breakable
) -> None:
    retention = retention_of(journal, clock)
    await journal.finish(submission(clock))
    clock.move(31 * 86400)
    file.break_()
    with pytest.raises(JournalUnavailableError):
        await retention.round()
    file.mend()
    await retention.round()
    assert await all_rows(journal.store) == []


async def test_a_retention_that_fails_is_reported_once_and_when_it_works_again(
    journal: LiveJournal, clock: MovableClock, file: Breakable
) -> None:
    received = Received()
    retention = retention_of(journal, clock, received)
    file.break_()
    for _ in range(3):
        await retention.attempt()
    (output,) = received.events
    assert isinstance(output, RetentionChanged)
    assert output.problem is not None
    assert NOT_OPENED in output.problem
    assert journal.problem is None  # mail does not stop for it
    file.mend()
    for _ in range(3):
        await retention.attempt()
    assert received.events[1:] == [RetentionChanged(None, clock.now())]
    assert received.errors == []


@pytest.mark.slow
async def test_a_retention_that_takes_too_long_is_reported(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The journal's own begins with it, and would wait for the lock for as long as it may.
    await until(lambda: journal.size.octets)
    monkeypatch.setattr("smtpgate.journal.writer._COMMIT_S", 0.05)
    retention = retention_of(journal, clock)
    with contextlib.closing(
        sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        await retention.attempt()
        other.execute("ROLLBACK")
    assert retention.problem is not None
    assert "not written within 0.05 s" in retention.problem


async def test_what_nobody_expects_of_a_retention_is_reported_as_such(
    journal: LiveJournal, clock: MovableClock
) -> None:
    received = Received()
    retention = retention_of(journal, clock, received, max_age=timedelta(days=10**6))
    await retention.attempt()
    assert [type(error) for error in received.errors] == [OverflowError]
    assert retention.problem is not None
    assert "OverflowError" in retention.problem


async def test_a_login_that_comes_while_nothing_can_be_written_is_written_later(
    journal: LiveJournal, clock: MovableClock, file: Breakable
) -> None:
    file.break_()
    journal.publish(structs.replace(auth_failed(), at=clock.now()))
    with pytest.raises(JournalUnavailableError):
        await journal.begin(submission(clock))
    assert journal.owed == 1
    file.mend()
    await journal.writer.retry()
    (row,) = await all_rows(journal.store)
    assert row.kind == "login"


async def test_an_outage_is_noticed_without_any_mail(
    journal: LiveJournal, file: Breakable
) -> None:
    assert journal.presence is not None
    file.break_()
    await journal.presence.attempt()
    assert journal.problem is not None
    file.mend()
    await journal.writer.retry()
    await journal.presence.attempt()
    assert journal.problem is None


async def test_how_much_is_owed_is_known_after_the_gate_was_killed(
    journal: LiveJournal, clock: MovableClock, file: Breakable, tmp_path: Path
) -> None:
    (marker,) = tmp_path.glob("journal.writer-*")
    file.break_()
    for number in range(1, 4):
        with pytest.raises(JournalUnavailableError):
            await journal.finish(submission(clock))
        assert int(marker.read_text()) == number
    file.mend()
    await journal.writer.retry()
    assert int(marker.read_text()) == 0
