"""Statistics of sending in the manner of Amazon SES: GetSendStatistics, BatchGetMetricData.

An account sees the mail that it sent; mail of others with its identities counts for these.
https://docs.aws.amazon.com/ses/latest/APIReference/API_SendDataPoint.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from smtpgate.admin.journal import JournalSession
from smtpgate.admin.refs import IdentityRef
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.usage import Counts, Grain, start_of, unit_of
from smtpgate.journal.event_query import EventQuery, event_counts_by
from smtpgate.journal.usage_query import UsageQuery, sent_by_time


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDataPoint:
    """The sums of 15 minutes, in recipients.

    ``bounces`` and ``complaints`` have the moment when they came, not that of their message.
    ``rejects`` are of messages that were accepted from the client and then not sent.
    """

    timestamp: datetime
    delivery_attempts: int
    bounces: int
    complaints: int
    rejects: int


async def send_statistics(
    session: JournalSession, account_id: str | None = None
) -> Sequence[SendDataPoint]:
    """The points of the last two weeks, in order of time; none of a time without any mail.

    A recipient that the upstream refused with the whole message was attempted too.
    """
    sender_id, now = session.viewer("GetUsage", account_id), session.now()
    store, grain = session.reader.store, Grain.POINT
    since = now - grain.kept
    sent = await sent_by_time(
        store, UsageQuery(grain=grain, since=since, until=now, sender_id=sender_id)
    )
    asked = EventQuery(grain=grain, since=since, until=now, account_id=sender_id)
    found = await event_counts_by(store, asked, "start")
    events = {start: counts for (start,), counts in found.items()}
    points = (
        _point(start, sent.get(start, Counts()), events.get(start, EventCounts()))
        for start in sorted(sent.keys() | events.keys())
    )
    return [one for one in points if _has_any(one)]


def _point(start: int, sent: Counts, events: EventCounts) -> SendDataPoint:
    return SendDataPoint(
        timestamp=start_of(Grain.POINT, start),
        delivery_attempts=sent.recipients + events.refused,
        bounces=events.bounces,
        complaints=events.complaints,
        rejects=events.rejects,
    )


def _has_any(one: SendDataPoint) -> bool:
    return any((one.delivery_attempts, one.bounces, one.complaints, one.rejects))


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyQuestion:
    """The mail to sum up by days: all that an account sent, or a part of it."""

    since: datetime
    until: datetime
    identity: IdentityRef | None = None
    configuration_set: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DailySums:
    """The sums of a day (UTC), in recipients. No mail is ``sent`` by a configuration set."""

    day: datetime
    sent: int
    deliveries: int
    hard_bounces: int
    soft_bounces: int
    complaints: int


async def daily_sums(
    session: JournalSession, asked: DailyQuestion, account_id: str | None = None
) -> Sequence[DailySums]:
    """The sums of each day from ``since`` to ``until``, as far as they are kept.

    Days without mail have sums too. The usage of mail is not kept by configuration sets: with
    one only events count.
    """
    sender_id, grain = session.viewer("GetUsage", account_id), Grain.DAY
    since = max(asked.since, session.now() - grain.kept)
    until = min(asked.until, session.now())
    arn = None if asked.identity is None else session.identity_arn(asked.identity)
    store = session.reader.store
    sent: Mapping[int, Counts] = {}
    if asked.configuration_set is None:
        usage = UsageQuery(
            grain=grain, since=since, until=until, sender_id=sender_id, identity=arn
        )
        sent = await sent_by_time(store, usage)
    query = EventQuery(
        grain=grain,
        since=since,
        until=until,
        account_id=sender_id,
        identity=arn,
        configuration_set=asked.configuration_set,
    )
    found = await event_counts_by(store, query, "start")
    return [
        _daily(day, sent.get(day, Counts()), found.get((day,), EventCounts()))
        for day in range(unit_of(grain, since), unit_of(grain, until) + 1)
    ]


def _daily(day: int, sent: Counts, events: EventCounts) -> DailySums:
    return DailySums(
        day=start_of(Grain.DAY, day),
        sent=sent.recipients,
        deliveries=events.deliveries,
        hard_bounces=events.hard_bounces,
        soft_bounces=events.soft_bounces,
        complaints=events.complaints,
    )
