"""Events on SQLite and PostgreSQL: kept once, in force with the verdict, added up exactly."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import text

from smtpgate.config.sections import JournalConfig
from smtpgate.core.events import SubmissionDone
from smtpgate.core.feedback.kinds import MAILBOX_FULL, NO_EMAIL, ON_ACCOUNT_LIST
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.kept_event import KeptEvent
from smtpgate.core.history.search import Search
from smtpgate.core.history.usage import Grain, unit_of
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    Detail,
    EventRecipient,
    RejectDetail,
    RenderingFailureDetail,
    SendDetail,
    SendingEvent,
    sending_event,
)
from smtpgate.core.outbox.mail import sent_mail
from smtpgate.core.outbox.task import Task
from smtpgate.journal.event_query import (
    EventQuery,
    event_counts_by,
    events_of,
)
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.statements import RecordStatements
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.journal import (
    Received,
    event_counts,
    open_journal,
    retention_of,
    submission,
)
from tests.support.outbox import HOOK, queue_of, states
from tests.support.outbox import OTHER as OTHER_HOOK
from tests.support.outbox import event_about as event
from tests.support.world import DELEGATE, IDENTITY, OWNER

HARD: Final = BounceDetail(NO_EMAIL)
SOFT: Final = BounceDetail(MAILBOX_FULL)
JANE: Final = "jane@example.net"
OTHER: Final = "arn:aws:ses:us-east-1:777777777777:identity/example.org"


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.for_journal()


@pytest.fixture
async def journal(url: str, tmp_path: Path, clock: MovableClock) -> AsyncIterator[LiveJournal]:
    received = Received()
    async with open_journal(url, tmp_path, clock=clock, received=received) as opened:
        yield opened
    assert not received.errors


async def counts(journal: LiveJournal, clock: MovableClock, **asked: Any) -> EventCounts:  # noqa: ANN401 - fields of a query
    """The sums, which are the same by 15 minutes and by day."""
    found = [
        await event_counts(
            journal.store,
            EventQuery(
                grain=grain, since=clock.now() - timedelta(days=13), until=clock.now(), **asked
            ),
        )
        for grain in Grain
    ]
    assert found[0] == found[1]
    return found[0]


async def kept(journal: LiveJournal, done: SubmissionDone) -> list[KeptEvent]:
    return list(await events_of(journal.store, done.submission.message_id))


async def end(journal: LiveJournal, done: SubmissionDone, *events: SendingEvent) -> None:
    done.events = events
    await journal.finish(done)


# -- kept --------------------------------------------------------------------------------------


async def test_an_event_comes_back_as_it_was_put_in(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done = submission(clock)
    details: list[Detail] = [
        BounceDetail(NO_EMAIL, "dns; mx.example.net", "192.0.2.25"),
        ComplaintDetail("", "abuse", "Loop/1.0 \x00\x7f\u202e", clock.now()),
        DeliveryDetail(120, "250 ok", "dns; mx.example.net"),
        DelayDetail("MailboxFull", clock.now(), "dns; mx.example.net"),
        RejectDetail(),
        RenderingFailureDetail("no 'name'", "welcome"),
    ]
    for detail in details:
        await queue_of(journal).add([], [event(done, detail, JANE, "joe@example.net")])
    found = {one.kind: one for one in await kept(journal, done)}
    assert len(found) == len(details)
    for detail in details:
        made = event(done, detail, JANE, "joe@example.net")
        one = found[made.kind]
        assert (one.id, one.at, one.detail) == (made.id, made.at, detail)
        assert (one.number, one.recipients) == (2, made.recipients)
        assert (one.account_id, one.identity, one.owner_id) == (DELEGATE, IDENTITY, OWNER)
        assert one.user_arn == done.submission.principal.arn
        assert one.access_key == done.submission.client.access_key_id
    assert (found["Bounce"].type, found["Bounce"].subtype) == ("Permanent", "NoEmail")
    assert found["Bounce"].is_hard
    assert found["Complaint"].type == "abuse"
    assert found["DeliveryDelay"].type == "MailboxFull"


async def test_a_send_is_not_kept_again(journal: LiveJournal, clock: MovableClock) -> None:
    done = submission(clock)
    added = await queue_of(journal).add([], [event(done, SendDetail())])
    assert (added.tasks, added.events) == (0, frozenset())
    assert await kept(journal, done) == []


async def test_a_fact_is_kept_and_counted_once_and_has_its_tasks_once(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done, queue = submission(clock), queue_of(journal)
    first, again = event(done), event(done, at=clock.now() + timedelta(hours=1))
    added = await queue.add([Task(first, HOOK)], [first, first])
    assert added == (1, frozenset({first.id}))
    assert (await queue.add([Task(again, HOOK)], [again])).events == frozenset()
    assert (await queue.add([Task(again, OTHER_HOOK)], [again])).tasks == 0
    assert [one.at for one in await kept(journal, done)] == [first.at]
    assert await counts(journal, clock) == EventCounts(hard_bounces=1)
    assert await states(journal) == [(Task(first, HOOK).id, "waiting")]


async def test_many_at_once_are_each_counted_once(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done, queue = submission(clock), queue_of(journal)
    made = [event(done, HARD, f"jane{number}@example.net") for number in range(30)]
    doubled = [[one, made[at - 1]] for at, one in enumerate(made)]
    added = await asyncio.gather(*(queue.add([], pair) for pair in doubled))
    assert sum(len(one.events) for one in added) == 30
    assert await counts(journal, clock) == EventCounts(hard_bounces=30)


async def test_a_long_post_is_one_transaction_in_which_each_new_event_counts(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done, queue = submission(clock), queue_of(journal)
    made = [event(done, DeliveryDetail(), f"jane{number}@example.net") for number in range(300)]
    await queue.add([], made[::7])
    added = await queue.add([], [*made, *made])
    assert len(added.events) == 300 - len(made[::7])
    assert await counts(journal, clock) == EventCounts(deliveries=300)


async def test_a_long_event_is_bounded_and_still_counts_all(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done = submission(clock)
    mail = sent_mail(done.submission, IDENTITY, None)
    known = [
        EventRecipient(f"jane{number}@example.net", "failed", "5.0.0", "x" * 5000)
        for number in range(1500)
    ]
    await queue_of(journal).add([], [sending_event(clock.now(), mail, known, SOFT)])
    (one,) = await kept(journal, done)
    assert (one.number, len(one.recipients)) == (1500, 100)
    assert {len(recipient.diagnostic) for recipient in one.recipients} == {500}
    assert await counts(journal, clock) == EventCounts(soft_bounces=1500)


async def test_addresses_are_not_kept_where_the_journal_keeps_none(
    url: str, tmp_path: Path, clock: MovableClock
) -> None:
    settings = JournalConfig(recipients=False)
    async with open_journal(url, tmp_path, clock=clock, settings=settings) as journal:
        done = submission(clock)
        await journal.begin(done)
        await end(journal, done, event(done))
        (one,) = await kept(journal, done)
        assert [(each.address, each.status) for each in one.recipients] == [("", "5.1.1")]


# -- with a verdict ----------------------------------------------------------------------------


async def test_noted_events_count_when_the_verdict_comes(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done = submission(clock)
    noted = event(done)
    await journal.begin(done)
    await journal.note([], [noted])
    assert await kept(journal, done) == []
    assert await counts(journal, clock) == EventCounts()
    await end(journal, done, noted)
    assert [one.id for one in await kept(journal, done)] == [noted.id]
    assert await counts(journal, clock) == EventCounts(hard_bounces=1)


async def test_noted_events_go_with_a_verdict_that_has_none(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done, neighbour = submission(clock), submission(clock)
    for each in (done, neighbour):
        await journal.begin(each)
        await journal.note([], [event(each)])
    done.outcome, done.reason = "deferred", "upstream-unreachable"
    await end(journal, done)
    await end(journal, neighbour, event(neighbour))
    assert await kept(journal, done) == []
    assert await counts(journal, clock) == EventCounts(hard_bounces=1)


async def test_a_noted_bounce_may_become_that_of_a_refusal(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done = submission(clock, "refused", "upstream-reply")
    await journal.begin(done)
    await journal.note([], [event(done), event(done, HARD, "joe@example.net")])
    await end(journal, done, event(done, BounceDetail(NO_EMAIL, is_refusal=True)))
    (one,) = await kept(journal, done)
    assert one.is_refusal
    assert await counts(journal, clock) == EventCounts(hard_bounces=1, refused=1)


async def test_a_verdict_that_is_written_again_counts_once(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done = submission(clock)
    await journal.begin(done)
    await journal.note([], [event(done)])
    await journal.give_up([done.submission.message_id])
    assert await counts(journal, clock) == EventCounts(hard_bounces=1)
    done.may_be_recorded = True
    await end(journal, done, event(done))
    assert await counts(journal, clock) == EventCounts(hard_bounces=1)


async def test_noted_events_without_any_record_come_into_force_in_the_end(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done, queue = submission(clock), queue_of(journal)
    await journal.note([], [event(done)])
    clock.move(3599)
    await queue.tidy(clock.now(), 86_400)
    assert await kept(journal, done) == []
    clock.move(2)
    await queue.tidy(clock.now(), 86_400)
    assert len(await kept(journal, done)) == 1
    assert await counts(journal, clock) == EventCounts(hard_bounces=1)


async def test_messages_are_found_by_their_events(
    journal: LiveJournal, clock: MovableClock
) -> None:
    bounced: list[str] = []
    of_other: list[str] = []
    sent: list[SubmissionDone] = []
    for number in range(310):  # more than fit on a page
        done = submission(clock, identity=OTHER if number % 2 else IDENTITY)
        if number % 3:
            done.events = (event(done), event(done, HARD, "joe@example.net"))
            bounced.insert(0, done.submission.message_id)
            of_other[:0] = bounced[:1] if number % 2 else []
        sent.append(done)
        clock.move(61)
    await asyncio.gather(*map(journal.finish, sent))
    complained = submission(clock)
    await journal.finish(complained)
    await queue_of(journal).add([], [event(complained, ComplaintDetail())])
    open_ = submission(clock)
    await journal.begin(open_)
    await journal.note([], [event(open_)])

    async def found(**wanted: Any) -> list[str]:  # noqa: ANN401 - fields of a search
        reader = JournalReader(journal.store, journal.store.key())
        return [one.id async for one in reader.search(Search(**wanted), clock.now())]

    assert len(bounced) > 200
    assert await found(event="Bounce") == bounced
    assert await found(event="Complaint") == [complained.submission.message_id]
    assert await found(event="Delivery") == []
    assert await found(event="Bounce", account_id=DELEGATE) == bounced
    assert await found(event="Bounce", identity=OTHER) == of_other
    assert await found(event="Bounce", account_id="111111111111") == []
    since = clock.now() - timedelta(seconds=61 * 15)
    assert await found(event="Bounce", since=since) == bounced[:10]


async def test_an_accepted_message_without_events_costs_no_statement_about_them(
    tmp_path: Path, clock: MovableClock
) -> None:
    url, statements = f"sqlite:///{tmp_path}/journal.sqlite", list[str]()
    async with open_journal(url, tmp_path, clock=clock) as journal:
        plain, bounced = submission(clock), submission(clock)
        bounced.events = (event(bounced),)
        entries = journal.entries
        rows = [entries.ending(one) for one in (plain, bounced)]
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        connection.set_trace_callback(statements.append)
        for row in rows:
            assert row is not None
            statements.append("--")
            RecordStatements().write(connection, [row])
        connection.set_trace_callback(None)
        connection.rollback()
    of_plain, of_bounced = "\n".join(statements).split("--")[1:]
    assert "journal_usage" in of_plain
    for name in ("journal_events", "journal_event_sums", "journal_tasks"):
        assert name not in of_plain
    assert "journal_events" in of_bounced


# -- sums --------------------------------------------------------------------------------------


async def test_sums_are_exact_for_every_selection(
    journal: LiveJournal, clock: MovableClock
) -> None:
    queue = queue_of(journal)
    first, second = submission(clock), submission(clock, identity=OTHER)
    await queue.add(
        [],
        [
            event(first, HARD, "a@example.net", configuration_set="news"),
            event(first, SOFT, "b@example.net", "c@example.net"),
            event(first, ComplaintDetail("", "abuse"), configuration_set="news"),
            event(first, DeliveryDetail()),
            event(first, DelayDetail("General")),
            event(first, RejectDetail()),
            event(first, HARD, "bounce@simulator.amazonses.com"),
            event(first, BounceDetail(ON_ACCOUNT_LIST), "d@example.net"),
            event(first, ComplaintDetail("OnAccountSuppressionList"), "e@example.net"),
            event(second, HARD),
        ],
    )
    whole = EventCounts(2, 2, 1, 1, 1, 1, 3, 0)
    assert await counts(journal, clock) == whole
    assert await counts(journal, clock, account_id=DELEGATE) == whole
    assert await counts(journal, clock, account_id=OWNER) == EventCounts()
    assert await counts(journal, clock, viewer_id=DELEGATE) == whole
    assert await counts(journal, clock, viewer_id="777777777777") == EventCounts(1)
    assert await counts(journal, clock, identity=OTHER) == EventCounts(1)
    of_set = {"account_id": DELEGATE, "configuration_set": "news"}
    assert await counts(journal, clock, **of_set) == EventCounts(1, complaints=1)
    key = first.submission.client.access_key_id
    assert await counts(journal, clock, account_id=DELEGATE, access_key=key) == whole
    assert await counts(journal, clock, account_id=DELEGATE, access_key="no") == EventCounts()


async def test_mail_of_an_owner_with_its_own_identity_counts_once_in_its_view(
    journal: LiveJournal, clock: MovableClock
) -> None:
    for account in (OWNER, DELEGATE):
        await queue_of(journal).add([], [event(submission(clock, account=account))])
    assert await counts(journal, clock, viewer_id=OWNER) == EventCounts(hard_bounces=2)
    assert await counts(journal, clock, viewer_id=DELEGATE) == EventCounts(hard_bounces=1)


async def test_a_record_has_the_configuration_set_and_the_tags_for_later_events(
    journal: LiveJournal, clock: MovableClock
) -> None:
    done = submission(clock)
    done.intent = SendingIntent(configuration_set="news", tags=(("a", ("b", "c")),))
    await journal.finish(done)
    reader = JournalReader(journal.store, journal.store.key())
    record = await reader.get(done.submission.message_id)
    assert record is not None
    assert record.intent == done.intent


async def test_sums_are_grouped_by_keys_and_by_time(
    journal: LiveJournal, clock: MovableClock
) -> None:
    queue, begin = queue_of(journal), clock.now()
    done, other = submission(clock), submission(clock, identity=OTHER)
    for number in range(4):
        at = begin + timedelta(minutes=15 * number)
        await queue.add([], [event(done, HARD, f"a{number}@example.net", at=at)])
        await queue.add([], [event(other, SOFT, f"a{number}@example.net", at=at)])
    clock.move(3600)
    asked = EventQuery(grain=Grain.POINT, since=begin, until=clock.now())
    assert await event_counts_by(journal.store, asked, "account_id", "identity") == {
        (DELEGATE, OTHER): EventCounts(soft_bounces=4),
        (DELEGATE, IDENTITY): EventCounts(hard_bounces=4),
    }
    by_time = await event_counts_by(journal.store, asked, "start")
    first = unit_of(Grain.POINT, begin)
    assert by_time == {(first + number,): EventCounts(1, 1) for number in range(4)}
    later = EventQuery(
        grain=Grain.POINT, since=begin + timedelta(minutes=30), until=clock.now()
    )
    assert await event_counts(journal.store, later) == EventCounts(2, 2)


# -- what is old -------------------------------------------------------------------------------


async def test_events_go_with_their_records_and_sums_stay(
    journal: LiveJournal, clock: MovableClock
) -> None:
    old = submission(clock)
    await journal.begin(old)
    await end(journal, old, event(old))
    clock.move(10 * 86_400)
    new = submission(clock)
    await journal.begin(new)
    await end(journal, new, event(new))
    await retention_of(journal, clock, max_age=timedelta(days=9)).round()
    assert await kept(journal, old) == []
    assert len(await kept(journal, new)) == 1
    assert await counts(journal, clock) == EventCounts(hard_bounces=2)
    clock.move(401 * 86_400)
    await retention_of(journal, clock).round()
    async with journal.store.reading() as connection:
        for name in ("journal_events", "journal_event_sums"):
            found = await connection.execute(text(f"SELECT count(*) FROM {name}"))
            assert found.scalar_one() == 0
