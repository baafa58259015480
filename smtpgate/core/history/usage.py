"""Usage: sums of submissions by sender, identity and time.

A submission counts once, at the moment that it was received, for its sender: the delegate, if
the identity is another's. The identity is the one that served From, and its owner sees the
usage of others with it. Points of 15 minutes are kept for two weeks, as in Amazon SES; days are
kept for longer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, Protocol

from msgspec import Struct

from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.record import owner_of
from smtpgate.core.reply import MASKED_REASON

ACCEPTED: Final = "accepted"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BARS: Final = "▁▂▃▄▅▆▇█"


class Grain(IntEnum):
    """The period of one sum; the value is its length in minutes."""

    POINT = 15
    DAY = 1440

    @property
    def length(self) -> timedelta:
        """The length of the period."""
        return timedelta(minutes=self.value)

    @property
    def kept(self) -> timedelta:
        """The time for which sums are kept: 14 days for points, 13 months for days."""
        return timedelta(days=14 if self is Grain.POINT else 400)


class UsageKey(Struct, frozen=True, gc=False, order=True):
    """The key of a sum: sender, identity and reason (``accepted`` is one of them)."""

    account_id: str
    user_arn: str
    identity: str
    reason: str

    @property
    def owner_id(self) -> str:
        """The account that owns the identity, or an empty text."""
        return owner_of(self.identity)


class Counts(Struct, frozen=True, gc=False):
    """Sums: submissions, those accepted of them, and recipients and octets of the accepted."""

    attempts: int = 0
    messages: int = 0
    recipients: int = 0
    octets: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.attempts + other.attempts,
            self.messages + other.messages,
            self.recipients + other.recipients,
            self.octets + other.octets,
        )

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.attempts - other.attempts,
            self.messages - other.messages,
            self.recipients - other.recipients,
            self.octets - other.octets,
        )


_NO_COUNTS: Final = Counts()
_NO_EVENTS: Final = EventCounts()


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The sums of one period for one key; ``events`` are those that came in that period."""

    start: datetime
    key: UsageKey
    counts: Counts
    events: EventCounts = _NO_EVENTS


@dataclass(frozen=True, slots=True)
class Summary:
    """The sums of a time span for one sender and identity; ``attempts`` has one a period."""

    account_id: str
    user_arn: str
    identity: str
    counts: Counts = _NO_COUNTS
    rejects: Mapping[str, int] = field(default_factory=dict)
    attempts: tuple[int, ...] = ()
    events: EventCounts = _NO_EVENTS


@dataclass(frozen=True, slots=True)
class Span:
    """The sums of one period for all keys; ``rejects`` by reason."""

    start: datetime
    counts: Counts
    rejects: Mapping[str, int]
    events: EventCounts = _NO_EVENTS


def unit_of(grain: Grain, moment: datetime) -> int:
    """The number of the period that a moment is in, counted from 1970."""
    return (moment - _EPOCH) // grain.length


def start_of(grain: Grain, unit: int) -> datetime:
    """The first moment of a period."""
    return _EPOCH + grain.length * unit


class CountableRecord(Protocol):
    """The fields of a record that usage is made from."""

    @property
    def kind(self) -> str:
        """``submission``, or the kind of a refusal before there was a message."""

    @property
    def outcome(self) -> str:
        """The outcome."""

    @property
    def reason(self) -> str:
        """The reason code."""

    @property
    def account_id(self) -> str:
        """The id of the sending account."""

    @property
    def user_arn(self) -> str:
        """The ARN of the sending user."""

    @property
    def is_masked(self) -> bool:
        """True if the sender must not see the reason."""

    @property
    def from_identity(self) -> str:
        """The ARN of the identity that served From."""

    @property
    def sent_to(self) -> int:
        """The number of recipients, without those that a message is not sent to."""

    @property
    def octets(self) -> int:
        """The size of the message."""


def usage_of(record: CountableRecord) -> tuple[UsageKey, Counts] | None:
    """The counts that a record adds; ``None`` without a message or without a verdict.

    A refusal that the sender sees under another reason counts under that reason, for no
    identity: the sender sees the sums too. Recipients that are suppressed or simulated do not
    count: otherwise mail to these would lower the bounce rate of its sender.
    """
    if record.kind != "submission" or record.outcome == "relaying":
        return None
    identity, reason = record.from_identity, record.reason
    if record.is_masked:
        identity, reason = "", MASKED_REASON
    key = UsageKey(record.account_id, record.user_arn, identity, reason)
    if record.outcome != ACCEPTED:
        return key, Counts(attempts=1)
    return key, Counts(1, 1, record.sent_to, record.octets)


def summaries(
    rows: Iterable[UsageRow], grain: Grain, first: int, units: int
) -> Sequence[Summary]:
    """The rows added up by sender and identity, those with most attempts first.

    ``first`` is the number of the first period, ``units`` the number of periods.
    """
    found: dict[tuple[str, str, str], list[UsageRow]] = {}
    for row in rows:
        key = row.key
        found.setdefault((key.account_id, key.user_arn, key.identity), []).append(row)
    made = [
        Summary(
            *sender,
            sum((row.counts for row in of_sender), Counts()),
            _rejects(of_sender),
            _attempts(of_sender, grain, first, units),
            sum((row.events for row in of_sender), EventCounts()),
        )
        for sender, of_sender in found.items()
    ]
    return sorted(made, key=lambda one: (-one.counts.attempts, one.user_arn, one.identity))


def _rejects(rows: Iterable[UsageRow]) -> dict[str, int]:
    rejects: dict[str, int] = {}
    for row in rows:
        if row.key.reason != ACCEPTED:
            reason = row.key.reason
            rejects[reason] = rejects.get(reason, 0) + row.counts.attempts
    return dict(sorted(rejects.items(), key=lambda pair: (-pair[1], pair[0])))


def _attempts(
    rows: Iterable[UsageRow], grain: Grain, first: int, units: int
) -> tuple[int, ...]:
    attempts = [0] * units
    for row in rows:
        at = unit_of(grain, row.start) - first
        if 0 <= at < units:
            attempts[at] += row.counts.attempts
    return tuple(attempts)


def with_events(
    rows: Iterable[UsageRow], events: Mapping[tuple[datetime, UsageKey], EventCounts]
) -> Sequence[UsageRow]:
    """The rows with the sums of events, which belong to the key of accepted messages.

    A period that has only events gets a row without messages.
    """
    found = {(row.start, row.key): row for row in rows}
    for place, counts in events.items():
        row = found.get(place) or UsageRow(*place, Counts())
        found[place] = replace(row, events=counts)
    return [found[place] for place in sorted(found)]


def series(
    rows: Iterable[UsageRow], key: Callable[[UsageRow], datetime] = lambda row: row.start
) -> Sequence[Span]:
    """The rows added up by time, in order of time."""
    found: dict[datetime, list[UsageRow]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return [
        Span(
            start,
            sum((row.counts for row in of_start), Counts()),
            _rejects(of_start),
            sum((row.events for row in of_start), EventCounts()),
        )
        for start, of_start in sorted(found.items())
    ]


def sparkline(values: Sequence[int], width: int) -> str:
    """The values as a row of at most ``width`` small bars; neighbours are added up to fit.

    0 is a blank, and every other value is visible.
    """
    if len(values) > width:
        values = [
            sum(values[len(values) * at // width : len(values) * (at + 1) // width])
            for at in range(width)
        ]
    most = max(values, default=0)
    return "".join(
        _BARS[max(0, -(-value * len(_BARS) // most) - 1)] if value else " " for value in values
    )
