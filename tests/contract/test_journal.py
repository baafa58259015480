"""The journal on SQLite and PostgreSQL: what was put in is found again, once, and added up."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import starmap
from pathlib import Path
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from msgspec import structs
from sqlalchemy import Connection, text

from smtpgate.config.sections import JournalConfig
from smtpgate.core.address import Mailbox
from smtpgate.core.events import MailRefused, SubmissionDone
from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.history.usage import (
    Counts,
    Grain,
    UsageKey,
    UsageRow,
    start_of,
    unit_of,
    usage_of,
)
from smtpgate.core.message.author import Author
from smtpgate.core.message.body import head_of
from smtpgate.core.message.envelope import Recipient
from smtpgate.core.message.headers import split_message
from smtpgate.core.moments import microseconds
from smtpgate.core.reply import reply_of
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.retention import GIVEN_UP
from smtpgate.journal.rows import Row
from smtpgate.journal.schema import HEAD, metadata
from smtpgate.journal.store import SCHEMA, JournalStore
from smtpgate.journal.terms import TermKeyError
from smtpgate.journal.usage_query import UsageQuery, usage_rows
from smtpgate.sql.upgrade import SchemaError, revision_of
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.directory import open_store as open_directory
from tests.support.events import auth_failed
from tests.support.journal import (
    WITH_TERMS,
    Received,
    all_rows,
    open_journal,
    open_store,
    retention_of,
    store_of,
    submission,
)
from tests.support.records import submission_record
from tests.support.world import DELEGATE, IDENTITY, OWNER

ALL: Final = Search()
OTHER: Final = "arn:aws:ses:us-east-1:777777777777:identity/example.org"


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.for_journal()


@pytest.fixture
def received() -> Received:
    return Received()


@pytest.fixture
async def journal(
    url: str, tmp_path: Path, clock: MovableClock, received: Received
) -> AsyncIterator[LiveJournal]:
    async with open_journal(url, tmp_path, clock=clock, received=received) as opened:
        yield opened
    assert not received.errors


def reader(journal: LiveJournal) -> JournalReader:
    return JournalReader(journal.store, journal.store.key())


async def put(journal: LiveJournal, *events: SubmissionDone) -> None:
    for event in events:
        await journal.begin(event)
        await journal.finish(event)


def record_of(event: SubmissionDone) -> Record:
    return submission_record(event, keep_recipients=True, keep_subject=False)


def texts_in(record: Record) -> list[str]:
    decision = record.decision
    assert decision is not None
    return [cited.text for cited in decision.determining]


async def found(journal: LiveJournal, clock: MovableClock, search: Search = ALL) -> list[str]:
    records = reader(journal).search(search, clock.now())
    return [record.id async for record in records]


# -- records -----------------------------------------------------------------------------------


async def test_a_record_comes_back_as_it_was_put_in(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock, recipients=2, used_24h=7)
    await put(journal, event)
    kept = await reader(journal).get(event.submission.message_id)
    assert kept == record_of(event)
    assert kept is not None
    assert texts_in(kept) == texts_in(record_of(event))
    assert any("marketing@ses-example.com" in text for text in texts_in(kept))


async def test_what_is_not_there_is_not_found(journal: LiveJournal) -> None:
    assert await reader(journal).get("0100-nothing") is None


async def test_a_submission_is_there_before_its_relay_and_completed_with_its_verdict(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    await journal.begin(event)
    (row,) = await all_rows(journal.store)
    assert (row.outcome, row.reason, row.done_us) == ("relaying", "relaying", None)
    clock.move(1)
    event.done_at = clock.now()
    await journal.finish(event)
    assert await reader(journal).get(row.id) == record_of(event)
    assert len(await all_rows(journal.store)) == 1


async def test_a_refusal_is_written_once_and_whole(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock, "refused", "implicit-deny")
    await journal.finish(event)
    assert await reader(journal).get(event.submission.message_id) == record_of(event)
    assert journal.tally.records == journal.tally.commits == 1


async def test_recipients_that_are_not_kept_can_be_searched_for_all_the_same(
    url: str, tmp_path: Path, clock: MovableClock
) -> None:
    settings = JournalConfig(recipients=False)
    async with open_journal(url, tmp_path, clock=clock, settings=settings) as journal:
        event = submission(clock, recipients=3)
        await put(journal, event, submission(clock, recipients=1))
        (row, _) = await all_rows(journal.store)
        assert "jane2" not in row.facts
        assert "jane2" not in await raw(journal.store)
        kept = await reader(journal).get(row.id)
        assert kept is not None
        assert (kept.recipients, kept.forward_paths) == (3, None)
        assert await found(journal, clock, Search(address="Jane2@example.net")) == [row.id]
        named = ["Jane2@example.net", "joe@example.net", "no address"]
        proven = await reader(journal).with_recipients(kept, named)
        assert proven.forward_paths == (Mailbox("jane2", "example.net"),)
        assert await reader(journal).with_recipients(proven, named) is proven


async def raw(store: JournalStore) -> str:
    """Everything that is in the tables, as text."""
    output = []
    async with store.reading() as connection:
        for name in metadata.tables:
            rows = await connection.execute(text(f"SELECT * FROM {name}"))
            output += [str(tuple(row)) for row in rows]
    return "\n".join(output)


async def test_a_subject_is_kept_only_where_that_is_wanted(
    url: str, tmp_path: Path, clock: MovableClock
) -> None:
    settings = JournalConfig(subject=True)
    async with open_journal(url, tmp_path, clock=clock, settings=settings) as journal:
        event = submission(clock)
        event.header = split_message(head_of(event.submission.message)).block
        await put(journal, event)
        kept = await reader(journal).get(event.submission.message_id)
        assert kept is not None
        assert kept.subject == "Spring sale"
        assert "Hello Jane" not in await raw(journal.store)


async def test_a_refused_login_and_a_refused_mail_have_their_rows(
    journal: LiveJournal, clock: MovableClock
) -> None:
    event = submission(clock)
    journal.publish(auth_failed("AKIAIOSFODNN7EXAMPLE"))
    journal.publish(
        MailRefused(
            message_id=event.submission.message_id,
            principal=event.submission.principal,
            client=event.submission.client,
            charges=event.charges,
            reason="max-24h-send",
            detail="account 999999999999: 0 of 200 recipients left",
            reply=reply_of("daily-quota"),
            at=clock.now(),
        )
    )
    await put(journal, submission(clock))  # goes behind the others
    login, mail, _ = sorted(await all_rows(journal.store), key=lambda row: row.kind)
    assert (login.kind, login.outcome, login.reason) == (
        "login",
        "refused",
        "invalid-credentials",
    )
    kept = await reader(journal).get(login.id)
    assert kept is not None
    assert (kept.username, kept.client.address) == ("AKIAIOSFODNN7EXAMPLE", "192.0.2.7")
    assert (mail.kind, mail.outcome, mail.id) == (
        "mail",
        "deferred",
        event.submission.message_id,
    )
    refused = Search(reason="max-24h-send", account_id=DELEGATE)
    assert await found(journal, clock, refused) == [mail.id]
    assert await found(journal, clock, Search(reason="invalid-credentials")) == [login.id]


async def test_a_statement_s_text_is_kept_once_for_all_records(
    journal: LiveJournal, clock: MovableClock
) -> None:
    await put(journal, *(submission(clock) for _ in range(5)))
    clock.move(86400)
    await put(journal, submission(clock))
    async with journal.store.reading() as connection:
        rows = (await connection.execute(text("SELECT * FROM journal_statements"))).all()
    assert len(rows) == 2
    assert {row.last_day for row in rows} == {clock.now().toordinal() - 719163}


# -- groups ------------------------------------------------------------------------------------


async def test_what_comes_while_a_commit_runs_goes_into_the_next_one(
    journal: LiveJournal, clock: MovableClock
) -> None:
    events = [submission(clock) for _ in range(100)]
    await asyncio.gather(*(put(journal, event) for event in events))
    assert journal.tally.records == 200
    assert journal.tally.commits < 20
    ids = {event.submission.message_id for event in events}
    assert {row.id for row in await all_rows(journal.store)} == ids
    assert {row.outcome for row in await all_rows(journal.store)} == {"accepted"}


async def test_who_stops_waiting_changes_nothing_for_the_others(
    journal: LiveJournal, clock: MovableClock
) -> None:
    events = [submission(clock) for _ in range(10)]
    tasks = [asyncio.ensure_future(journal.finish(event)) for event in events]
    await asyncio.sleep(0)
    tasks[3].cancel()
    output = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in output].count(True) == 1
    assert len(await all_rows(journal.store)) == 10


# -- searches ----------------------------------------------------------------------------------


async def test_searches_find_what_fits_and_nothing_else(
    journal: LiveJournal, clock: MovableClock
) -> None:
    accepted = submission(clock, recipients=2)
    clock.move(2 * 3600)
    refused = submission(clock, "refused", "explicit-deny")
    clock.move(30 * 3600)
    elsewhere = submission(clock, identity=OTHER, account="777777777777")
    elsewhere.intent = None
    elsewhere.authors = (Author(None, Mailbox("Ceo", "example.org")),)
    elsewhere.submission = structs.replace(
        elsewhere.submission,
        envelope=structs.replace(
            elsewhere.submission.envelope, recipients=(Recipient(Mailbox("x", "test")),)
        ),
    )
    await put(journal, accepted, refused, elsewhere)
    one, two, three = (e.submission.message_id for e in (accepted, refused, elsewhere))
    for search, wanted in (
        (Search(), [three, two, one]),
        (Search(outcome="accepted"), [three, one]),
        (Search(outcome="refused"), [two]),
        (Search(reason="explicit-deny"), [two]),
        (Search(reason="implicit-deny"), []),
        (Search(address="jane1@example.net"), [one]),
        (Search(address="JANE0@example.net"), [two, one]),
        (Search(address="ceo@example.org"), [three]),
        (Search(identity=IDENTITY), [two, one]),
        (Search(identity="ses-example.com"), [three, two, one]),  # its MAIL FROM
        (Search(identity=IDENTITY.replace(OWNER, "777777777777")), []),
        (Search(identity=OTHER), [three]),
        (Search(identity="example.org"), [three]),
        (Search(account_id=DELEGATE), [two, one]),
        (Search(account_id=OWNER), [two, one]),
        (Search(account_id="777777777777"), [three]),
        (Search(account_id=OWNER, outcome="refused"), [two]),
        (Search(account_id=OWNER, address="jane1@example.net"), [one]),
        (Search(account_id=DELEGATE, reason="explicit-deny"), [two]),
        (Search(account_id="777777777777", reason="explicit-deny"), []),
        (Search(account_id=OWNER, reason="implicit-deny"), []),
        (Search(user=f"{DELEGATE}/Mailer", reason="explicit-deny"), [two]),
        (Search(identity=IDENTITY, reason="explicit-deny"), [two]),
        (Search(identity=OTHER, reason="explicit-deny"), []),
        (Search(identity="ses-example.com", reason="explicit-deny"), [two]),
        (Search(identity="example.org", outcome="refused"), []),
        (Search(identity=IDENTITY, account_id=OWNER, outcome="refused"), [two]),
        (Search(address="jane0@example.net", account_id=OWNER, outcome="refused"), [two]),
        (Search(user=f"{DELEGATE}/Mailer"), [two, one]),
        (Search(user=f"{DELEGATE}/ailer"), []),
        (Search(user=f"{OWNER}/mailer"), []),
        (Search(since=clock.now() - timedelta(hours=31)), [three, two]),
        (Search(until=clock.now() - timedelta(hours=31)), [one]),
        (Search(since=clock.now() - timedelta(hours=31), account_id=OWNER), [two]),
        (Search(until=clock.now() - timedelta(hours=31), account_id=OWNER), [one]),
    ):
        assert await found(journal, clock, search) == wanted, search


@pytest.mark.slow
async def test_a_search_through_many_pages_finds_all_newest_first(
    journal: LiveJournal, clock: MovableClock
) -> None:
    events = []
    for _ in range(30):
        events += [submission(clock) for _ in range(20)]
        clock.move(600)
    await asyncio.gather(*(put(journal, event) for event in events))
    wanted = sorted((event.submission.message_id for event in events), reverse=True)
    assert await found(journal, clock) == wanted
    assert await found(journal, clock, Search(account_id=OWNER)) == wanted


async def test_nothing_is_found_in_an_empty_journal(
    journal: LiveJournal, clock: MovableClock
) -> None:
    assert await found(journal, clock) == []
    assert await found(journal, clock, Search(account_id=OWNER)) == []


async def test_a_follower_gets_each_record_once_when_it_has_its_verdict(
    journal: LiveJournal, clock: MovableClock
) -> None:
    before, under_way, later = (submission(clock) for _ in range(3))
    await put(journal, before)
    await journal.begin(under_way)
    follower = await reader(journal).follower()
    assert await follower.poll() == []
    await put(journal, later)
    assert [one.id for one in await follower.poll()] == [later.submission.message_id]
    await journal.finish(under_way)
    assert [one.id for one in await follower.poll()] == [under_way.submission.message_id]
    assert await follower.poll() == []


# -- usage -------------------------------------------------------------------------------------


async def recomputed(store: JournalStore, grain: Grain) -> dict[tuple[Any, UsageKey], Counts]:
    """The sums of the journal's rows."""
    sums: dict[tuple[Any, UsageKey], Counts] = {}
    async with store.reading() as connection:
        names = ", ".join(Row.__struct_fields__)
        found = await connection.execute(text(f"SELECT {names} FROM journal_records"))
        for row in starmap(Row, found):
            counted = usage_of(row)
            if counted is not None:
                unit = row.received_us // (grain.value * 60_000_000)
                place = (start_of(grain, unit), counted[0])
                sums[place] = sums.get(place, Counts()) + counted[1]
    return sums


async def usage(
    store: JournalStore,
    clock: MovableClock,
    grain: Grain,
    *,
    account_id: str | None = None,
    identity: str | None = None,
) -> Sequence[UsageRow]:
    asked = UsageQuery(
        grain=grain,
        since=clock.now() - timedelta(days=3),
        until=clock.now(),
        account_id=account_id,
        identity=identity,
    )
    return await usage_rows(store, asked)


async def must_add_up(store: JournalStore, clock: MovableClock) -> None:
    for grain in Grain:
        output = {(row.start, row.key): row.counts for row in await usage(store, clock, grain)}
        assert output == await recomputed(store, grain)


async def test_usage_is_what_the_journal_adds_up_to(
    journal: LiveJournal, clock: MovableClock
) -> None:
    verdicts = [
        ("accepted", "accepted"),
        ("refused", "explicit-deny"),
        ("deferred", "upstream-unreachable"),
        ("in-doubt", "in-doubt"),
    ]
    for number in range(60):
        verdict = verdicts[number % 4]
        event = submission(clock, *verdict, recipients=number % 3 + 1)
        if number % 5 == 0:
            event.identities = ()
        await (journal.finish(event) if number % 7 == 0 else put(journal, event))
        clock.move(433)
    journal.publish(auth_failed())
    await journal.begin(submission(clock))
    await must_add_up(journal.store, clock)
    rows = await usage(journal.store, clock, Grain.DAY)
    assert sum(row.counts.attempts for row in rows) == 60
    assert sum(row.counts.messages for row in rows) == 15
    assert sum(row.counts.recipients for row in rows) == sum(n % 3 + 1 for n in range(0, 60, 4))


async def test_an_owner_sees_what_others_sent_and_a_sender_what_it_sent(
    journal: LiveJournal, clock: MovableClock
) -> None:
    await put(journal, submission(clock), submission(clock, identity=OTHER))
    for account, wanted in ((OWNER, [IDENTITY]), (DELEGATE, [OTHER, IDENTITY])):
        rows = await usage(journal.store, clock, Grain.POINT, account_id=account)
        assert [row.key.identity for row in rows] == wanted
        assert all(row.key.account_id == DELEGATE for row in rows)
    rows = await usage(journal.store, clock, Grain.POINT, identity=IDENTITY)
    assert [row.counts.messages for row in rows] == [1]


async def test_strangers_whose_logins_are_refused_push_no_records_out(
    journal: LiveJournal, clock: MovableClock
) -> None:
    for _ in range(1003):
        journal.publish(auth_failed())
    clock.move(20)
    for _ in range(3):
        journal.publish(auth_failed())
    await put(journal, submission(clock))
    kinds = Counter(row.kind for row in await all_rows(journal.store))
    assert kinds == {"login": 1002, "submission": 1}
    assert journal.tally.left_out == 4


# -- what is old -------------------------------------------------------------------------------


async def tables(store: JournalStore) -> dict[str, int]:
    async with store.reading() as connection:
        return {
            name: (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar_one()
            for name in metadata.tables
        }


async def test_what_is_older_than_its_time_goes_with_all_about_it(
    journal: LiveJournal, clock: MovableClock
) -> None:
    await put(journal, *(submission(clock) for _ in range(3)))
    journal.publish(auth_failed())
    clock.move(31 * 86400)
    await put(journal, submission(clock))
    await retention_of(journal, clock).round()
    left = await tables(journal.store)
    assert left["journal_records"] == 1
    assert left["journal_statements"] == 2
    (row,) = await all_rows(journal.store)
    assert await found(journal, clock, Search(account_id=OWNER)) == [row.id]
    async with journal.store.reading() as connection:
        ids = await connection.execute(text(f"SELECT DISTINCT id FROM ({WITH_TERMS}) AS found"))
        assert [one.id for one in ids] == [row.id]
    days = {row.start for row in await usage_rows(journal.store, over_a_year(clock, Grain.DAY))}
    points = await usage_rows(journal.store, over_a_year(clock, Grain.POINT))
    assert len(days) == 2
    assert {one.start for one in points} == {
        start_of(Grain.POINT, unit_of(Grain.POINT, clock.now()))
    }
    clock.move(401 * 86400)
    await retention_of(journal, clock).round()
    kept = {("journal_meta", 1), ("journal_writers", 1)}
    assert set((await tables(journal.store)).items()) - kept == {
        (name, 0) for name in metadata.tables if (name, 1) not in kept
    }


def over_a_year(clock: MovableClock, grain: Grain) -> UsageQuery:
    since = clock.now() - timedelta(days=399)
    return UsageQuery(grain=grain, since=since, until=clock.now())


async def test_what_was_left_without_a_verdict_is_in_doubt_after_a_while(
    journal: LiveJournal, clock: MovableClock
) -> None:
    left, young = submission(clock), submission(clock)
    await journal.begin(left)
    clock.move(GIVEN_UP.total_seconds() + 1)
    young = submission(clock)
    await journal.begin(young)
    await retention_of(journal, clock).round()
    given_up, under_way = await all_rows(journal.store)
    assert (given_up.outcome, given_up.reason) == ("in-doubt", "in-doubt")
    assert given_up.done_us == microseconds(clock.now())
    assert under_way.outcome == "relaying"
    await must_add_up(journal.store, clock)
    assert await found(journal, clock, Search(outcome="in-doubt")) == [given_up.id]
    for account_id in (DELEGATE, OWNER):
        search = Search(account_id=account_id, outcome="in-doubt")
        assert await found(journal, clock, search) == [given_up.id]
    assert await found(journal, clock, Search(outcome="relaying")) == [under_way.id]


async def test_a_verdict_that_comes_after_all_counts_once(
    journal: LiveJournal, clock: MovableClock
) -> None:
    late = submission(clock)
    await journal.begin(late)
    clock.move(GIVEN_UP.total_seconds() + 1)
    await retention_of(journal, clock).round()
    await journal.finish(late)
    (row,) = await all_rows(journal.store)
    assert row.outcome == "accepted"
    await must_add_up(journal.store, clock)
    (counted,) = await usage(journal.store, clock, Grain.DAY)
    assert (counted.key.reason, counted.counts.attempts) == ("accepted", 1)


async def test_a_verdict_of_a_row_that_is_gone_is_written_whole_beside_others(
    journal: LiveJournal, clock: MovableClock
) -> None:
    gone, there, whole = (submission(clock) for _ in range(3))
    await journal.begin(gone)
    await journal.begin(there)
    async with journal.store.database.writing() as connection:
        await connection.execute(
            text("DELETE FROM journal_records WHERE id = :id"),
            {"id": gone.submission.message_id},
        )
    await asyncio.gather(*(journal.finish(one) for one in (gone, there, whole)))
    assert {row.outcome for row in await all_rows(journal.store)} == {"accepted"}
    await must_add_up(journal.store, clock)
    (counted,) = await usage(journal.store, clock, Grain.DAY)
    assert counted.counts.attempts == 3


# -- tables and keys ---------------------------------------------------------------------------


def _differences(connection: Connection) -> list[Any]:
    # Of a partial index alembic sees no condition on SQLite, and compares it with none.
    options = {"version_table": SCHEMA.version_table}
    found: list[Any] = compare_metadata(
        MigrationContext.configure(connection, opts=options), metadata
    )
    return found


async def test_a_new_journal_has_the_tables_of_this_version(
    databases: Databases, tmp_path: Path
) -> None:
    async with open_store(databases.empty(), tmp_path) as store, store.reading() as connection:
        assert await connection.run_sync(_differences) == []
        assert await revision_of(store.database, SCHEMA) == HEAD


async def test_the_directory_and_the_journal_can_share_a_database(
    databases: Databases, tmp_path: Path, clock: MovableClock
) -> None:
    url = databases.empty()
    async with (
        open_directory(url) as directory,
        open_journal(url, tmp_path, clock=clock) as journal,
    ):
        await put(journal, submission(clock))
        assert await directory.look() == set()
        assert len(await all_rows(journal.store)) == 1


async def test_a_journal_is_not_searched_with_another_key_than_its_own(
    url: str, tmp_path: Path
) -> None:
    async with open_store(url, tmp_path):
        pass
    with pytest.raises(TermKeyError, match=r"journal\.key: is missing"):
        async with open_store(url, tmp_path / "elsewhere"):
            pass
    other = tmp_path / "other"
    other.mkdir()
    (other / "journal.key").write_text("A" * 43 + "=\n")
    with pytest.raises(TermKeyError, match="is not the key that the journal"):
        async with open_store(url, other):
            pass
    (other / "journal.key").write_text("short")
    with pytest.raises(TermKeyError, match="is not 32 octets in base64"):
        async with open_store(url, other):
            pass


async def test_a_later_version_s_tables_are_left_alone(url: str, tmp_path: Path) -> None:
    async with open_store(url, tmp_path) as store:
        async with store.database.changing() as connection:
            await connection.execute(text("UPDATE journal_version SET version_num = '9999'"))
        for may_upgrade in (True, False):
            with pytest.raises(SchemaError, match="later version of smtpgate"):
                await store.open(may_upgrade=may_upgrade)


async def test_tables_are_made_only_by_who_may(databases: Databases, tmp_path: Path) -> None:
    store = store_of(databases.empty(), tmp_path)
    store.database.create_file()
    try:
        with pytest.raises(SchemaError, match="holds no journal; `smtpgate journal upgrade'"):
            await store.open(may_upgrade=False)
    finally:
        await store.close()
