"""Events of messages as the use cases show them: explained, in usage, and as statistics."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from smtpgate.admin import journal, outbox
from smtpgate.admin.errors import AmbiguousIdError, NotFoundError, RefusedChangeError
from smtpgate.admin.explained import explained
from smtpgate.admin.journal import UsagePeriod
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.statistics import (
    DailyQuestion,
    DailySums,
    SendDataPoint,
    daily_sums,
    send_statistics,
)
from smtpgate.core.events import SubmissionDone
from smtpgate.core.feedback.kinds import MAILBOX_FULL, NO_EMAIL
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.usage import Grain, start_of, unit_of
from smtpgate.core.outbox.event import BounceDetail, ComplaintDetail, RejectDetail
from smtpgate.core.outbox.retries import Settled
from smtpgate.core.outbox.task import Destination, Task
from smtpgate.journal.live import LiveJournal
from smtpgate.outbox.queue import TaskQueue
from tests.admin.test_journal import session
from tests.support.admin import root
from tests.support.clock import MovableClock
from tests.support.journal import journal_in, open_journal, submission
from tests.support.outbox import event_about, queue_of
from tests.support.world import DELEGATE, IDENTITY, OWNER, PAUSED

OWNERS: Final = Destination("webhook", f"arn:aws:sns:us-east-1:{OWNER}:bounces:1", OWNER)
DELEGATES: Final = Destination("mail", "marketing@example.org", DELEGATE)
SOFT: Final = BounceDetail(MAILBOX_FULL)
AT_ONCE: Final = BounceDetail(NO_EMAIL, is_refusal=True)


@pytest.fixture
async def written(tmp_path: Path, clock: MovableClock) -> AsyncIterator[LiveJournal]:
    """An open journal."""
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as opened:
        yield opened


async def accepted(written: LiveJournal, clock: MovableClock, **more: object) -> SubmissionDone:
    done = submission(clock, **more)  # type: ignore[arg-type]
    await written.finish(done)
    return done


async def test_an_account_sees_events_and_its_own_destinations(
    written: LiveJournal, clock: MovableClock
) -> None:
    done = await accepted(written, clock)
    bounced = event_about(done, configuration_set="news")
    tasks = [Task(bounced, to) for to in (OWNERS, DELEGATES)]
    await queue_of(written).add(tasks, [bounced])
    views = {}
    for account in (None, OWNER, DELEGATE):
        found = await explained(session(written, clock), done.submission.message_id, account)
        views[account] = (
            [one.destination for one in found.later.notices],
            [(one.id, one.access_key, one.configuration_set) for one in found.later.events],
        )
    key = done.submission.client.access_key_id
    whole = [(bounced.id, key, "news")]
    assert sorted(views[None][0]) == sorted([OWNERS.name, DELEGATES.name])
    assert views[None][1] == whole
    assert views[OWNER] == ([OWNERS.name], [(bounced.id, "", "")])
    assert views[DELEGATE] == ([DELEGATES.name], whole)
    with pytest.raises(NotFoundError):
        await explained(session(written, clock, root(PAUSED)), done.submission.message_id)


def later(period: UsagePeriod) -> list[tuple[str, EventCounts]]:
    return [
        (row.key.account_id, row.events) for row in period.rows if row.events != EventCounts()
    ]


async def test_usage_has_the_events_of_both_views_in_the_period_in_which_they_came(
    written: LiveJournal, clock: MovableClock
) -> None:
    done = await accepted(written, clock)
    clock.move(3600)
    added = [
        event_about(done, SOFT, at=clock.now()),
        event_about(done, ComplaintDetail("", "abuse"), at=clock.now()),
    ]
    await queue_of(written).add([], added)
    counts, since = EventCounts(soft_bounces=1, complaints=1), clock.now() - timedelta(hours=3)
    for caller in (root(OWNER), root(DELEGATE)):
        seen = await journal.usage(session(written, clock, caller), since=since)
        assert later(seen) == [(DELEGATE, counts)]
        assert [row.counts.attempts for row in seen.rows] == [1, 0]
    owners = await journal.usage(session(written, clock, root(OWNER)), since=since)
    assert [row.events for row in owners.sent_by_others] == [EventCounts(), counts]
    assert later(await journal.usage(session(written, clock, root(PAUSED)), since=since)) == []
    asked = session(written, clock)
    for wanted, found in (
        ({"user": f"{DELEGATE}/Mailer"}, [(DELEGATE, counts)]),
        ({"user": f"{DELEGATE}/robot"}, []),
        ({"identity": IDENTITY}, [(DELEGATE, counts)]),
        ({"identity": f"{IDENTITY}.example"}, []),
    ):
        assert later(await journal.usage(asked, since=since, **wanted)) == found, wanted  # type: ignore[arg-type]


async def test_statistics_have_a_point_for_each_quarter_of_an_hour_with_mail(
    written: LiveJournal, clock: MovableClock
) -> None:
    begin = start_of(Grain.POINT, unit_of(Grain.POINT, clock.now()))
    first = await accepted(written, clock, recipients=3)
    refused = submission(clock, "refused", "upstream-reply")
    refused.events = (event_about(refused, AT_ONCE, at=clock.now()),)
    await written.finish(refused)
    await written.finish(submission(clock, "refused", "explicit-deny"))
    clock.move(3600)
    later = [
        event_about(first, detail, at=clock.now())
        for detail in (SOFT, ComplaintDetail(), RejectDetail())
    ]
    await queue_of(written).add([], later)
    points = await send_statistics(session(written, clock, root(DELEGATE)))
    assert points == [
        SendDataPoint(timestamp=begin, delivery_attempts=4, bounces=1, complaints=0, rejects=0),
        SendDataPoint(
            timestamp=begin + timedelta(hours=1),
            delivery_attempts=0,
            bounces=1,
            complaints=1,
            rejects=1,
        ),
    ]
    assert await send_statistics(session(written, clock), DELEGATE) == points
    assert await send_statistics(session(written, clock)) == points
    assert await send_statistics(session(written, clock, root(OWNER))) == []
    clock.move(15 * 86_400)
    assert await send_statistics(session(written, clock, root(DELEGATE))) == []


async def test_sums_by_day_have_every_day_and_the_events_of_their_own_day(
    written: LiveJournal, clock: MovableClock
) -> None:
    today = start_of(Grain.DAY, unit_of(Grain.DAY, clock.now()))
    begin, first = clock.now(), await accepted(written, clock, recipients=3)
    second = await accepted(written, clock)
    clock.move(2 * 86_400)
    later = [
        event_about(done, detail, at=clock.now(), configuration_set="news")
        for done, detail in (
            (first, SOFT),
            (second, BounceDetail(NO_EMAIL)),
            (first, ComplaintDetail()),
        )
    ]
    await queue_of(written).add([], later)
    whole = DailyQuestion(since=begin, until=clock.now() + timedelta(days=9))
    asked = session(written, clock, root(DELEGATE))
    none = {"deliveries": 0, "hard_bounces": 0, "soft_bounces": 0, "complaints": 0}
    bad = {"deliveries": 0, "hard_bounces": 1, "soft_bounces": 1, "complaints": 1}
    days = [today + timedelta(days=one) for one in range(3)]
    assert await daily_sums(asked, whole) == [
        DailySums(day=days[0], sent=4, **none),
        DailySums(day=days[1], sent=0, **none),
        DailySums(day=days[2], sent=0, **bad),
    ]
    own, other = IdentityRef(OWNER, "ses-example.com"), IdentityRef(OWNER, "example.org")
    for part, sums in (
        ({"identity": own}, (4, 1)),
        ({"identity": other}, (0, 0)),
        ({"configuration_set": "news"}, (0, 1)),
        ({"configuration_set": "other"}, (0, 0)),
    ):
        found = await daily_sums(asked, replace(whole, **part))
        assert (found[0].sent, found[2].complaints) == sums, part
    early = DailyQuestion(since=begin - timedelta(days=5000), until=begin)
    assert len(await daily_sums(asked, early)) < 402
    nobody = await daily_sums(session(written, clock, root(PAUSED)), whole)
    assert not any(one.sent or one.complaints for one in nobody)


async def test_a_task_is_named_by_a_unique_beginning_and_changed_while_it_waits(
    written: LiveJournal, clock: MovableClock
) -> None:
    done = await accepted(written, clock)
    operator = session(written, clock)
    queue = TaskQueue(written.writer.run, written.store, lambda: 1)
    tasks = [
        Task(event_about(done), Destination("webhook", f"{OWNERS.name}{number}", OWNER))
        for number in range(17)
    ]
    await queue.add(tasks)
    firsts = Counter(task.id[0] for task in tasks)
    with pytest.raises(AmbiguousIdError):
        await outbox.get(operator, firsts.most_common(1)[0][0])
    one = tasks[0]
    leased = await queue.lease({one.destination.lane: 1}, clock.now(), 60)
    assert [found.task.id for found in leased] == [one.id]
    with pytest.raises(RefusedChangeError, match="is being delivered now"):
        await outbox.retry(operator, one.id)
    await queue.settle([Settled(one.id, 1, "sent", clock.now(), clock.now(), "200 OK")])
    for change in (outbox.retry, outbox.drop):
        with pytest.raises(RefusedChangeError, match="is sent; only waiting and dead ones"):
            await change(operator, one.id)
