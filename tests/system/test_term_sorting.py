"""Terms of a SQLite journal: searches find the same before, while and after they are sorted."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from msgspec import structs
from sqlalchemy import Connection, text
from sqlalchemy.dialects import sqlite

from smtpgate.core.address import parse_mailbox
from smtpgate.core.events import SubmissionDone
from smtpgate.core.history.search import Search
from smtpgate.core.message.envelope import Recipient
from smtpgate.journal import reader as reader_module
from smtpgate.journal import term_sorting
from smtpgate.journal.file import JournalFile
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.schema import records
from smtpgate.journal.term_sorting import having_recently, sort_some_in
from smtpgate.journal.terms import TERM_OCTETS
from tests.support.clock import MovableClock
from tests.support.events import auth_failed
from tests.support.journal import Breakable, all_rows, journal_in, open_journal, submission
from tests.support.world import DELEGATE, OWNER

SEARCHES: Final[tuple[Search, ...]] = (
    Search(account_id=OWNER),
    Search(account_id=DELEGATE, reason="policy-denied"),
    Search(address="marketing@ses-example.com", outcome="refused"),
    Search(address="nobody@example.org"),
    Search(reason="quota-exceeded"),
    Search(account_id=OWNER, outcome="accepted"),
)
WAITING: Final = """
SELECT count(*) FROM journal_records WHERE seq >
    coalesce((SELECT CAST(value AS INTEGER) FROM journal_meta WHERE name = 'sorted'), 0)
"""


@pytest.fixture
async def journal(tmp_path: Path, clock: MovableClock) -> AsyncIterator[LiveJournal]:
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as opened:
        yield opened


async def put(journal: LiveJournal, *events: SubmissionDone) -> None:
    for event in events:
        await journal.begin(event)
        await journal.finish(event)


def some(clock: MovableClock, number: int) -> list[SubmissionDone]:
    """Submissions of several hours, each third refused."""
    found = []
    for at in range(number):
        clock.move(1200)
        verdict = ("refused", "policy-denied") if at % 3 == 0 else ("accepted", "accepted")
        found.append(submission(clock, *verdict))
    return found


async def found(journal: LiveJournal, clock: MovableClock) -> list[list[str]]:
    reader = JournalReader(journal.store, journal.store.key())
    return [[record.id async for record in reader.search(one, clock.now())] for one in SEARCHES]


async def sort_in(journal: LiveJournal) -> bool:
    """Sort terms in as the writer's thread does; false if there was nothing."""

    def work(connection: Connection) -> bool:
        driver = connection.connection.driver_connection
        assert driver is not None
        return sort_some_in(driver)

    return await journal.writer.run(work)


def counted(folder: Path) -> tuple[int, int]:
    """The number of rows that wait, and of terms that are sorted in."""
    connection = sqlite3.connect(folder / "journal.sqlite")
    try:
        (waiting,) = connection.execute(WAITING).fetchone()
        (sorted_in,) = connection.execute("SELECT count(*) FROM journal_terms").fetchone()
        return waiting, sorted_in
    finally:
        connection.close()


@pytest.mark.parametrize("sorted_in", [False, True])
async def test_terms_are_counted_as_they_are_written(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path, sorted_in: bool
) -> None:
    file = JournalFile(journal.store.database, clock)
    event = submission(clock, "refused", "policy-denied")
    begun = journal.entries.beginning(event)
    assert file.write([begun]) == [None]
    journal.entries.begun(begun)
    if sorted_in:
        assert await sort_in(journal)
    ended = journal.entries.ending(event)
    assert ended is not None
    assert file.write([ended]) == [None]
    written = file._unsorted
    file.close()
    assert written == (len(begun.early_terms) + len(ended.late_terms)) // TERM_OCTETS
    while await sort_in(journal):
        pass
    assert counted(tmp_path)[1] == written


@pytest.mark.slow
async def test_each_search_finds_the_same_before_and_after(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A page has two records: some searches end in the middle of one, or of what is sorted in.
    monkeypatch.setattr(reader_module, "_PAGE", 2)
    monkeypatch.setattr(term_sorting, "_SORTED_AT_ONCE", 3)
    await put(journal, *some(clock, 9))
    before = await found(journal, clock)
    assert [len(ids) for ids in before] == [9, 3, 3, 0, 0, 6]
    assert all(ids == sorted(ids, reverse=True) for ids in before)
    while counted(tmp_path)[0]:
        assert await sort_in(journal)
        assert await found(journal, clock) == before
    assert counted(tmp_path)[1] > 9
    assert not await sort_in(journal)


async def test_terms_are_sorted_in_once_there_are_enough_of_them(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term_sorting, "SORTED_AFTER", 50)
    await put(journal, *some(clock, 2))
    assert counted(tmp_path)[1] == 0
    await put(journal, *some(clock, 1))
    await put(journal, *some(clock, 1))  # the thread has sorted before it takes this one
    waiting, sorted_in = counted(tmp_path)
    assert waiting <= 2
    assert sorted_in > 0
    assert [len(ids) for ids in await found(journal, clock)] == [4, 3, 3, 0, 0, 1]


async def test_the_more_terms_records_have_the_fewer_records_are_sorted_in_together(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path
) -> None:
    with_many = submission(clock)
    names = (Recipient(parse_mailbox(f"jane+{at}@example.net")) for at in range(1200))
    envelope = structs.replace(with_many.submission.envelope, recipients=tuple(names))
    with_many.submission = structs.replace(with_many.submission, envelope=envelope)
    await put(journal, with_many)
    await put(journal, *some(clock, 1))
    assert counted(tmp_path)[1] > 1200


async def test_records_with_few_terms_do_not_gather(
    journal: LiveJournal, tmp_path: Path
) -> None:
    for _ in range(0, 400, 20):
        logins = [journal.entries.of_event(auth_failed()) for _ in range(20)]
        await asyncio.gather(*(journal.writer.put(one) for one in logins if one is not None))
    waiting, sorted_in = counted(tmp_path)
    assert waiting + sorted_in // 3 == 400  # each has three terms
    assert waiting <= 60


async def test_terms_that_cannot_be_sorted_in_now_wait(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term_sorting, "SORTED_AFTER", 20)
    file = Breakable(tmp_path / "journal.sqlite")
    events = some(clock, 3)

    def taken_away(connection: object) -> bool:
        file.break_()
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(term_sorting, "sort_some_in", taken_away)
        await put(journal, events[1], events[0])  # a refusal, which has terms of its own, last
        await journal.writer._groups.close()
    file.mend()
    assert counted(tmp_path)[1] == 0
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as again:
        assert [len(ids) for ids in await found(again, clock)] == [2, 1, 1, 0, 0, 1]
        await put(again, events[2])
        await put(again, *some(clock, 1))
        assert [len(ids) for ids in await found(again, clock)] == [4, 2, 2, 0, 0, 2]


async def test_a_record_of_a_process_that_ended_is_found_by_what_was_known_and_by_its_end(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    await journal.begin(event)
    await journal.give_up({event.submission.message_id})
    (row,) = await all_rows(journal.store)
    assert row.outcome == "in-doubt"
    reader = JournalReader(journal.store, journal.store.key())
    for search in (
        Search(account_id=DELEGATE, outcome="in-doubt"),
        Search(address="marketing@ses-example.com", reason="in-doubt"),
    ):
        assert [one.id async for one in reader.search(search, clock.now())] == [row.id]


REFUSED = Search(reason="upstream-rejected")
REFUSED_OF_SENDER = Search(address="marketing@ses-example.com", reason="upstream-rejected")


@pytest.mark.parametrize("sorted_in", [0, 1, 2], ids=["waits", "one waits", "is sorted in"])
@pytest.mark.parametrize("may_be_there", [False, True])
async def test_terms_that_verdicts_add_are_found_wherever_the_others_are(
    journal: LiveJournal,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
    sorted_in: int,
    may_be_there: bool,
) -> None:
    monkeypatch.setattr(term_sorting, "_SORTED_AT_ONCE", 1)
    events = [submission(clock, "refused", "upstream-rejected") for _ in range(2)]
    for event in events:
        await journal.begin(event)
        event.may_be_recorded = may_be_there
    for _ in range(sorted_in):
        assert await sort_in(journal)
    await asyncio.gather(*map(journal.finish, events))
    assert journal.tally.commits == 3  # both verdicts are one group
    reader = JournalReader(journal.store, journal.store.key())
    wanted = sorted((event.submission.message_id for event in events), reverse=True)
    while True:
        for search in (REFUSED, REFUSED_OF_SENDER):
            assert [one.id async for one in reader.search(search, clock.now())] == wanted
        if not await sort_in(journal):
            break


async def test_numbers_without_a_record_are_no_end(
    journal: LiveJournal, clock: MovableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term_sorting, "_SORTED_AT_ONCE", 1)
    await put(journal, *some(clock, 4))
    gone = text("DELETE FROM journal_records WHERE seq IN (1, 2, 4)")
    await journal.writer.run(lambda connection: connection.execute(gone).rowcount)
    assert await sort_in(journal)
    assert counted(tmp_path)[0] == 0
    await put(journal, *some(clock, 1))  # its number is that behind the greatest there was
    assert counted(tmp_path)[0] == 1
    assert await sort_in(journal)
    assert not await sort_in(journal)
    assert [len(ids) for ids in await found(journal, clock)] == [2, 1, 1, 0, 0, 1]


async def test_a_search_reads_only_the_rows_that_wait(journal: LiveJournal) -> None:
    query = having_recently([], [100, 101]).order_by(records.c.id.desc()).limit(200)
    async with journal.store.reading() as connection:
        made = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        plan = await connection.execute(text(f"EXPLAIN QUERY PLAN {made}"))
        steps = [row.detail for row in plan]
    of_rows = [step for step in steps if "journal_records" in step]
    assert len(of_rows) == 2
    assert all("USING INTEGER PRIMARY KEY" in step for step in of_rows)
