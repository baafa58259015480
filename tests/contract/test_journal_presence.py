"""Gates that die while they write to a journal: their records are in doubt, nobody else's."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from smtpgate.config.sections import JournalConfig
from smtpgate.core.events import Event, RecordsInDoubt, RecordsLost, SubmissionDone
from smtpgate.core.history.search import Search
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.presence import LEASE_S, Presence
from smtpgate.journal.reader import JournalReader
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.journal import (
    Received,
    all_rows,
    must_add_up,
    open_journal,
    store_with_tables,
    submission,
)


class Fleet:
    """Gates of several hosts that share a journal; each host has a folder of its own."""

    def __init__(self, url: str, folder: Path, clock: MovableClock) -> None:
        self.url = url
        self.clock = clock
        self.received = Received()
        self._folder = folder
        self._stack = AsyncExitStack()

    def folder(self, host: str) -> Path:
        folder = self._folder / host
        if not folder.exists():
            folder.mkdir()
            for key in self._folder.glob("*/journal.key"):
                shutil.copy(key, folder)
                break
        return folder

    async def gate(self, host: str) -> LiveJournal:
        opened = open_journal(
            self.url, self.folder(host), clock=self.clock, received=self.received
        )
        return await self._stack.enter_async_context(opened)

    async def close(self) -> None:
        await self._stack.aclose()
        assert self.received.errors == []

    def events(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.received.events if type(event) is kind]


@pytest.fixture
async def fleet(
    databases: Databases, tmp_path: Path, clock: MovableClock
) -> AsyncIterator[Fleet]:
    made = Fleet(databases.for_journal(), tmp_path, clock)
    yield made
    await made.close()


async def killed_gate(fleet: Fleet, host: str, *begun: SubmissionDone, owed: int = 0) -> None:
    """A gate that began those, and was then killed: the system lets go of its lock."""
    journal = LiveJournal(
        await store_with_tables(fleet.url, fleet.folder(host)),
        JournalConfig(),
        clock=fleet.clock,
        events=Received(),
        on_error=fleet.received.errors.append,
    )
    await journal.start()
    for event in begun:
        await journal.begin(event)
    presence = presence_of(journal)
    presence.owes(owed)
    presence._marker.leave()
    journal._tasks.cancel()
    await journal._tasks.drain(1)
    await journal.writer.close()
    await journal.store.close()


def presence_of(journal: LiveJournal) -> Presence:
    assert journal.presence is not None
    return journal.presence


async def outcomes(journal: LiveJournal) -> dict[str, str]:
    return {row.id: row.outcome for row in await all_rows(journal.store)}


def id_of(event: SubmissionDone) -> str:
    return event.submission.message_id


async def silence(journal: LiveJournal, seconds: float = LEASE_S + 1) -> None:
    """Have a gate be silent for so long, by the database's clock."""
    statement = text("UPDATE journal_writers SET seen_us = seen_us - :us WHERE id = :id")
    async with journal.store.database.writing() as connection:
        values = {"us": int(seconds * 1_000_000), "id": presence_of(journal).number}
        await connection.execute(statement, values)


async def test_what_a_killed_gate_left_is_in_doubt_at_the_next_start(
    fleet: Fleet, clock: MovableClock
) -> None:
    left = [submission(clock) for _ in range(3)]
    await killed_gate(fleet, "one", *left)
    journal = await fleet.gate("one")
    assert await outcomes(journal) == {id_of(event): "in-doubt" for event in left}
    reader = JournalReader(journal.store, journal.store.key())
    found = [one.id async for one in reader.search(Search(outcome="in-doubt"), clock.now())]
    assert sorted(found) == sorted(map(id_of, left))
    assert fleet.events(RecordsInDoubt) == [RecordsInDoubt(3, clock.now())]
    assert journal.tally.in_doubt == 3
    await must_add_up(journal.store, clock.now())
    await presence_of(journal).beat()
    assert len(fleet.events(RecordsInDoubt)) == 1


async def test_what_a_killed_gate_had_in_memory_alone_is_reported_once(
    fleet: Fleet, clock: MovableClock
) -> None:
    await killed_gate(fleet, "one", owed=7)
    journal = await fleet.gate("one")
    (lost,) = fleet.events(RecordsLost)
    assert isinstance(lost, RecordsLost)
    assert lost.records == journal.tally.lost == 7
    assert "killed" in lost.problem
    await presence_of(journal).beat()
    _ = await fleet.gate("one")
    assert len(fleet.events(RecordsLost)) == 1


async def test_a_second_gate_of_a_host_leaves_the_first_one_s_records_alone(
    fleet: Fleet, clock: MovableClock
) -> None:
    first, event = await fleet.gate("one"), submission(clock)
    await first.begin(event)
    second = await fleet.gate("one")
    await silence(first)
    for _ in range(2):  # frozen as it may be, its lock says that it lives
        await presence_of(second).beat()
        clock.move(LEASE_S + 1)
    assert await outcomes(first) == {id_of(event): "relaying"}
    await first.finish(event)
    assert await outcomes(first) == {id_of(event): "accepted"}


async def test_another_host_s_gate_is_taken_for_dead_after_a_minute_of_silence(
    fleet: Fleet, clock: MovableClock
) -> None:
    event = submission(clock)
    await killed_gate(fleet, "one", event)
    other = await fleet.gate("two")
    await must_still_wait(other, event)
    async with other.store.database.writing() as connection:
        await connection.execute(
            text("UPDATE journal_writers SET seen_us = seen_us - 61000000")
        )
    await presence_of(other).beat()
    # This gate has not been there for a minute itself: the database may have been away.
    await must_still_wait(other, event)
    clock.move(LEASE_S + 1)
    await presence_of(other).beat()
    assert await outcomes(other) == {id_of(event): "in-doubt"}


async def must_still_wait(journal: LiveJournal, event: SubmissionDone) -> None:
    assert (await outcomes(journal))[id_of(event)] == "relaying"


async def test_a_minute_without_the_database_starts_again_after_each_failure(
    fleet: Fleet, clock: MovableClock
) -> None:
    one, two, event = await fleet.gate("one"), await fleet.gate("two"), submission(clock)
    await one.begin(event)
    await silence(one)
    clock.move(LEASE_S + 1)
    two.writer.fail("away")
    await two.writer.retry()
    await presence_of(two).beat()
    await must_still_wait(two, event)


async def test_a_gate_that_was_taken_for_dead_has_the_last_word(
    fleet: Fleet, clock: MovableClock
) -> None:
    frozen, event = await fleet.gate("one"), submission(clock)
    await frozen.begin(event)
    other = await fleet.gate("two")
    await silence(frozen)
    clock.move(LEASE_S + 1)
    await presence_of(other).beat()
    assert await outcomes(other) == {id_of(event): "in-doubt"}
    await frozen.finish(event)
    assert await outcomes(other) == {id_of(event): "accepted"}
    await must_add_up(other.store, clock.now())
    later = submission(clock)
    await frozen.begin(later)
    await presence_of(frozen).beat()
    await presence_of(other).beat()
    await must_still_wait(other, later)


async def test_a_folder_that_was_copied_from_a_host_says_nothing_of_its_gate(
    fleet: Fleet, clock: MovableClock
) -> None:
    one, event = await fleet.gate("one"), submission(clock)
    await one.begin(event)
    for marker in fleet.folder("one").glob("journal.writer-*"):
        shutil.copy(marker, fleet.folder("two"))
    two = await fleet.gate("two")
    await must_still_wait(two, event)
    assert len(list(fleet.folder("two").glob("journal.writer-*"))) == 1


async def test_a_file_that_cannot_be_opened_is_logged_once_and_the_others_are_seen_to(
    fleet: Fleet, clock: MovableClock
) -> None:
    event = submission(clock)
    await killed_gate(fleet, "one", event)
    closed = fleet.folder("one") / "journal.writer-00000000000001"
    closed.mkdir()  # as root any file could be opened
    gate = await fleet.gate("one")
    for _ in range(3):
        await presence_of(gate).attempt()
    assert await outcomes(gate) == {id_of(event): "in-doubt"}
    (error,) = fleet.received.errors
    assert f"{closed}: cannot be opened (is a directory)" in str(error)
    closed.rmdir()
    await presence_of(gate).attempt()
    closed.mkdir()
    await presence_of(gate).attempt()
    assert len(fleet.received.errors) == 2
    fleet.received.errors.clear()
    closed.rmdir()


async def test_a_gate_whose_file_cannot_be_opened_is_taken_for_dead_after_a_minute(
    fleet: Fleet, clock: MovableClock
) -> None:
    gate, other, event = await fleet.gate("one"), await fleet.gate("two"), submission(clock)
    await other.begin(event)
    closed = fleet.folder("one") / f"journal.writer-{presence_of(other).number:014x}"
    closed.mkdir()
    await presence_of(gate).attempt()
    await silence(other)
    clock.move(LEASE_S + 1)
    await presence_of(gate).attempt()
    assert await outcomes(gate) == {id_of(event): "in-doubt"}
    fleet.received.errors.clear()
    closed.rmdir()


async def test_a_gate_that_ends_in_order_leaves_nothing(
    databases: Databases, tmp_path: Path, clock: MovableClock
) -> None:
    url, event = databases.for_journal(), submission(clock)
    async with open_journal(url, tmp_path, clock=clock) as journal:
        await journal.begin(event)
    assert list(tmp_path.glob("journal.writer-*")) == []
    async with open_journal(url, tmp_path, clock=clock) as journal:
        assert await outcomes(journal) == {id_of(event): "in-doubt"}
        assert len(list(tmp_path.glob("journal.writer-*"))) == 1


async def test_the_size_is_known_ten_seconds_later_at_most(
    fleet: Fleet, clock: MovableClock
) -> None:
    journal = await fleet.gate("one")
    await asyncio.gather(*(journal.finish(submission(clock)) for _ in range(20)))
    await presence_of(journal).beat()
    assert journal.size.records == 20
    assert journal.size.octets >= 0
