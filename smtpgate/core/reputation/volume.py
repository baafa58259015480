"""The representative volume: the mail of a sender that its rates are computed over.

It is an amount of mail, not a time, as at Amazon SES, which does not say how it is chosen. Here
it is a week of the sender's own sending, between two bounds:

- A week, because senders have days: newsletters on Tuesdays, invoices at the end of a month. It
  is seven times the median of the days on which the sender sent anything.
- At least 10,000 recipients, because a complaint rate of 0.1 % cannot be seen in fewer.
- At most 1,000,000, so that a large sender's bad day is not hidden by its good week.

Days are added up from today back until they have that volume: at least yesterday and today, and
at most 30 days. So a sender cannot improve its rates by sending nothing: its last mail stays
its representative volume.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from msgspec import Struct

from smtpgate.core.reputation.thresholds import Measure

LONGEST: Final = timedelta(days=30)
_WEEK: Final = 7
_LEAST_RECIPIENTS: Final = 10_000
_MOST_RECIPIENTS: Final = 1_000_000
_LEAST_DAYS: Final = 2


class Day(Struct, frozen=True, gc=False):
    """The mail of a sender on one day (UTC), of which ``start`` is the first moment.

    ``sent`` are the recipients that were tried, ``bounces`` those of them that bounced for
    good, ``complaints`` those that complained on that day.
    """

    start: datetime
    sent: int = 0
    bounces: int = 0
    complaints: int = 0


class Volume(Struct, frozen=True, gc=False):
    """The sums of the days since a moment; of none without it."""

    since: datetime | None = None
    sent: int = 0
    bounces: int = 0
    complaints: int = 0

    def bad(self, measure: Measure) -> int:
        """The recipients that count against the sender."""
        return self.bounces if measure == "bounce" else self.complaints

    def rate(self, measure: Measure) -> float:
        """Their share of all recipients, from 0 to 1.

        Bounces of mail that was sent before the volume may be more than its recipients.
        """
        bad = self.bad(measure)
        return min(bad / self.sent, 1.0) if self.sent else float(bad > 0)

    def percent(self, measure: Measure) -> str:
        """The same for people."""
        return percent(self.rate(measure))


def percent(rate: float) -> str:
    """A rate for people: two digits behind the point, as complaints need them."""
    return f"{100 * rate:.2f} %"


def wanted_recipients(days: Iterable[Day]) -> int:
    """The representative volume of a sender with these days."""
    sent = [day.sent for day in days if day.sent]
    week = int(_WEEK * median(sent)) if sent else 0
    return min(max(week, _LEAST_RECIPIENTS), _MOST_RECIPIENTS)


def representative(days: Sequence[Day], now: datetime) -> Volume:
    """The volume of a sender, of days in any order; those over 30 days ago do not count."""
    newest_first = sorted(
        (day for day in days if now - LONGEST < day.start <= now),
        key=lambda day: day.start,
        reverse=True,
    )
    wanted, last_needed = wanted_recipients(newest_first), now - timedelta(days=_LEAST_DAYS)
    volume = Volume()
    for day in newest_first:
        if volume.sent >= wanted and day.start <= last_needed:
            break
        volume = Volume(
            day.start,
            volume.sent + day.sent,
            volume.bounces + day.bounces,
            volume.complaints + day.complaints,
        )
    return volume
