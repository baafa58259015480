"""Sending limits read from their description a second time: plain lists, sums and fractions.

It shares no code with ``smtpgate.core.limits`` but the words (subjects, charges). It keeps a
count for every minute in a dictionary, adds all of them up each time, forgets nothing by
itself, and counts tokens as fractions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Final, NamedTuple

from smtpgate.core.limits import Charge, Subject

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
LATE: Final = timedelta(seconds=5)
DAY_AND_MINUTE: Final = 24 * 60 + 1
UNLIMITED: Final = -1
A_YEAR: Final = timedelta(days=366)


def minute_of(moment: datetime) -> int:
    return (moment - EPOCH) // MINUTE


class NaiveRefusal(NamedTuple):
    """The subject, the limit, the rest, and the time to wait."""

    subject: Subject
    limit: str
    left: int
    wait: timedelta | None


class NaivePassed(NamedTuple):
    """The reservation's number, each subject's sum with it, may a threshold be reported."""

    number: int
    used: tuple[int, ...]
    may_tell: bool


class NaiveLimitStatus(NamedTuple):
    """The sum, then what is left of each limit and how long until one fits again."""

    used_24h: int
    left: int | None
    quota_free_in: timedelta | None
    rate_left: int | None
    rate_free_in: timedelta | None


@dataclass
class Account:
    """The messages that one subject has sent."""

    as_of: datetime
    counts: dict[int, int] = field(default_factory=dict)
    tokens: Fraction | None = None
    reported: dict[tuple[int, int], int] = field(default_factory=dict)

    def moment(self, now: datetime) -> datetime:
        late = timedelta(0) < self.as_of - now <= LATE
        return self.as_of if late else now

    def used(self, now: datetime) -> int:
        last = minute_of(self.moment(now))
        return sum(n for minute, n in self.counts.items() if minute > last - DAY_AND_MINUTE)

    def see(self, charge: Charge, now: datetime) -> None:
        """Bring it up to now, for good."""
        moment = self.moment(now)
        last, rate = minute_of(moment), Fraction(charge.limits.max_send_rate_per_s)
        if moment < self.as_of:  # the clock was set back
            for minute in [minute for minute in self.counts if minute > last]:
                self.counts[last] = self.counts.get(last, 0) + self.counts.pop(minute)
            self.reported = {key: min(minute, last) for key, minute in self.reported.items()}
        for minute in [one for one in self.counts if one <= last - DAY_AND_MINUTE]:
            del self.counts[minute]
        if rate == UNLIMITED:
            self.tokens = None
        else:
            depth = max(rate, Fraction(1)) if rate else Fraction(0)
            current = depth if self.tokens is None else self.tokens
            passed_us = max(timedelta(0), moment - self.as_of) // timedelta(microseconds=1)
            self.tokens = min(depth, current + rate * passed_us / 1_000_000)
        self.as_of = moment

    def until_room(self, quota: int, recipients: int) -> datetime:
        """The first full minute at whose beginning they fit."""
        counts = dict(self.counts)
        for minute in sorted(counts):
            del counts[minute]
            if sum(counts.values()) + recipients <= quota:
                return EPOCH + (minute + DAY_AND_MINUTE) * MINUTE
        raise AssertionError("they fit into an empty window")

    def give_back(self, minute: int, recipients: int) -> None:
        if self.tokens is not None:
            self.tokens += recipients
        last = minute_of(self.as_of)
        own = min(minute, last)
        if own <= last - DAY_AND_MINUTE:
            return
        for place in [own, *sorted(self.counts)]:
            taken = min(self.counts.get(place, 0), recipients)
            self.counts[place] = self.counts.get(place, 0) - taken
            recipients -= taken

    def untold(self, quota: int) -> list[int]:
        if quota == UNLIMITED:
            return []
        last, used = minute_of(self.as_of), sum(self.counts.values())
        return [
            percent
            for percent in (80, 90, 100)
            if Fraction(used * 100) >= quota * percent
            and last - self.reported.get((quota, percent), -(10**9)) >= 24 * 60
        ]


@dataclass
class NaiveReservation:
    """When it was made, and for each charge the minute in which it was counted."""

    at: datetime
    charges: Sequence[Charge]
    recipients: int
    minutes: list[int]
    may_tell: bool


@dataclass
class NaiveLimits:
    """Every subject's, with what is reserved and not settled."""

    lease: timedelta
    accounts: dict[Subject, Account] = field(default_factory=dict)
    open: dict[int, "NaiveReservation"] = field(default_factory=dict)
    numbers: int = 0

    def used(self, subject: Subject, now: datetime) -> int:
        """The recipients counted in the last 24 hours."""
        account = self.accounts.get(subject)
        return account.used(now) if account else 0

    def limit_status(self, charge: Charge, now: datetime) -> NaiveLimitStatus:
        """The rest of both limits."""
        account, quota = self._seen(charge, now), charge.limits.max_24h_send
        used, tokens = sum(account.counts.values()), account.tokens
        waits = {one.limit: one.wait for one in self._refusals(account, charge, 1, now)}
        return NaiveLimitStatus(
            used,
            None if quota == UNLIMITED else max(0, quota - used),
            waits.get("max-24h-send"),
            None if tokens is None else max(0, ceil(tokens)),
            waits.get("max-send-rate"),
        )

    def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> NaivePassed | NaiveRefusal:
        """Count them for all, or for none."""
        refusals = [
            refusal
            for charge in charges
            for refusal in self._refusals(self._seen(charge, now), charge, recipients, now)
        ]
        if refusals:
            for charge in charges:  # a clock that was set back stays so
                account = self.accounts.get(charge.subject)
                if account is not None and now < account.as_of - LATE:
                    account.see(charge, now)
            longest = [one for one in refusals if one.wait is None] or sorted(
                refusals, key=lambda one: one.wait or timedelta.max, reverse=True
            )
            return longest[0]
        minutes, may_tell = [], False
        for charge in charges:
            account = self.accounts.setdefault(charge.subject, Account(now))
            account.see(charge, now)
            minute = minute_of(account.as_of)
            account.counts[minute] = account.counts.get(minute, 0) + recipients
            if account.tokens is not None:
                account.tokens -= recipients
            minutes.append(minute)
            may_tell |= bool(account.untold(charge.limits.max_24h_send))
        self.numbers += 1
        self.open[self.numbers] = NaiveReservation(now, charges, recipients, minutes, may_tell)
        used = tuple(self.used(charge.subject, now) for charge in charges)
        return NaivePassed(self.numbers, used, may_tell)

    def settle(
        self, number: int, accepted: int, now: datetime
    ) -> list[tuple[Subject, int, int]]:
        """Give back those that were not accepted; whose threshold is reported, and the sum."""
        reserved = self.open.pop(number, None)
        if reserved is None or now - reserved.at > self.lease:
            return []
        reported = []
        for charge, minute in zip(reserved.charges, reserved.minutes, strict=True):
            account, quota = self.accounts[charge.subject], charge.limits.max_24h_send
            if accepted < reserved.recipients:
                account.give_back(minute, reserved.recipients - accepted)
            if not reserved.may_tell or not accepted:
                continue
            account.see(charge, now)
            for percent in account.untold(quota):
                of_quota = {key: at for key, at in account.reported.items() if key[0] == quota}
                account.reported = of_quota | {(quota, percent): minute_of(account.as_of)}
                reported.append((charge.subject, percent, sum(account.counts.values())))
        return reported

    def _seen(self, charge: Charge, now: datetime) -> Account:
        account = self.accounts.get(charge.subject, Account(now))
        seen = Account(
            account.as_of, dict(account.counts), account.tokens, dict(account.reported)
        )
        seen.see(charge, now)
        return seen

    def _refusals(
        self, account: Account, charge: Charge, recipients: int, now: datetime
    ) -> Iterator[NaiveRefusal]:
        quota, used = charge.limits.max_24h_send, sum(account.counts.values())
        if quota != UNLIMITED and used + recipients > quota:
            wait = None if recipients > quota else account.until_room(quota, recipients) - now
            yield NaiveRefusal(charge.subject, "max-24h-send", max(0, quota - used), wait)
        if account.tokens is not None and account.tokens <= 0:
            rate = Fraction(charge.limits.max_send_rate_per_s)
            lacking_us = Fraction(2) - account.tokens * 1_000_000
            wait = None
            if rate:
                wait = timedelta(microseconds=ceil(lacking_us / rate)) + (account.as_of - now)
                wait = min(wait, A_YEAR + (account.as_of - now))
            yield NaiveRefusal(charge.subject, "max-send-rate", 0, wait)
