"""Statistics of sending in the manner of Amazon SES's GetSendStatistics.

An account sees the mail that it sent; mail of others with its identities counts for these.
https://docs.aws.amazon.com/ses/latest/APIReference/API_SendDataPoint.html
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from smtpgate.admin.journal import JournalSession
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.usage import Counts, Grain, start_of
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
