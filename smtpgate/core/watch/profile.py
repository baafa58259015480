"""The profile of an access key: what its use was, in a few kilobytes.

It has the figures of the last thirty days on which the key was used, and sketches of its
networks, its From addresses and domains, its recipients, and its hours of the day. Times are
hours since 1970, days are days since 1970, in UTC.

The use of today and yesterday is what is judged; the history are the days before. A day with an
alarm never becomes history by itself, nor does what was first seen on it: only a confirmation
makes it that.
"""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Final

from msgspec import Struct, structs

from smtpgate.core.address import domain_of
from smtpgate.core.watch.sketch import Horizon, Sketch, Span, hash_of, names_joined, names_seen

MAX_DAYS: Final = 30
MAX_NAMES: Final = 32
MAX_AUTHORS: Final = 128
MAX_RECIPIENTS: Final = 256
_MAX_ALARM_DAYS: Final = 5
_MAX_HOURS: Final = 26
_CELLS: Final = 48
_FIRST_DAYS: Final = 7
# The days that are judged: so much is not history yet.
_JUDGED_DAYS: Final = 2
# 1970-01-01 was a Thursday.
_SATURDAY: Final = 2


class Observation(Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """The use of a key in one hour from one network, with the same From addresses.

    ``recipients`` are counted where the message was accepted or may have been; ``addresses``
    has their hashes. ``refused`` are messages that were refused for good, ``bounced`` are
    recipients that were, and ``outside`` are logins with the right password from outside the
    networks of the key: then the network is no network of the key.
    """

    hour: int
    network: str = ""
    authors: tuple[str, ...] = ()
    messages: int = 0
    recipients: int = 0
    addresses: tuple[int, ...] = ()
    refused: int = 0
    bounced: int = 0
    outside: int = 0

    @property
    def day(self) -> int:
        """The day of that hour."""
        return self.hour // 24

    @property
    def networks(self) -> tuple[str, ...]:
        """The network that was used, if one was."""
        return (self.network,) if self.network and self.messages else ()


class DayOfUse(Struct, frozen=True, gc=False, array_like=True):
    """The figures of one day; ``peak`` are the most recipients in one of its hours.

    ``new_recipients`` is an estimate. ``networks``, ``authors`` and ``domains`` are the numbers
    of new ones, counted once the key has a history. ``odd`` are recipients at hours at which
    the key is not used. ``has_alarm``: it differed so much that it was reported.
    """

    messages: int = 0
    recipients: int = 0
    peak: int = 0
    new_recipients: int = 0
    refused: int = 0
    bounced: int = 0
    networks: int = 0
    authors: int = 0
    domains: int = 0
    odd: int = 0
    outside: int = 0
    has_alarm: bool = False


_FIGURES: Final = DayOfUse.__struct_fields__
_values: Final = attrgetter(*_FIGURES)


def _most(one: DayOfUse, other: DayOfUse) -> DayOfUse:
    return DayOfUse(*map(max, _values(one), _values(other)))


class Reported(Struct, frozen=True, gc=False, array_like=True, order=True):
    """The last report of one level: its hour, and all signals that were reported lately."""

    hour: int = 0
    signals: tuple[str, ...] = ()


class Profile(Struct, frozen=True, gc=False, array_like=True):
    """The profile of one key.

    ``epoch`` is the second of the last confirmation or resumption: profiles of one key are only
    joined if theirs are the same. ``notice`` and ``alarm`` are the last reports.
    """

    epoch: int = 0
    first_day: int = 0
    hours: dict[int, int] = {}
    days: dict[int, DayOfUse] = {}
    networks: dict[str, Span] = {}
    domains: dict[str, Span] = {}
    authors: Sketch = Sketch()
    recipients: Sketch = Sketch()
    cells: Sketch = Sketch()
    notice: Reported = Reported()
    alarm: Reported = Reported()

    def horizon(self, today: int) -> Horizon:
        """The line between history and what is judged on that day."""
        alarms = frozenset(day for day, its in self.days.items() if its.has_alarm)
        return Horizon(today - _JUDGED_DAYS, alarms)

    def history(self, today: int) -> list[DayOfUse]:
        """The days that the day is compared with."""
        last = today - _JUDGED_DAYS
        return [its for day, its in self.days.items() if day <= last and not its.has_alarm]

    def later_history(self, today: int) -> list[DayOfUse]:
        """The same without the first week, if enough days of use are left without it."""
        last, first = today - _JUDGED_DAYS, self.first_day + _FIRST_DAYS
        later = [
            its for day, its in self.days.items() if first <= day <= last and not its.has_alarm
        ]
        return later if len(later) >= MIN_DAYS else self.history(today)

    def has_learned(self, today: int, learn_days: int) -> bool:
        """True if its history is long enough to judge by."""
        if today - self.first_day < learn_days:
            return False
        history = [its for its in self.history(today) if its.messages]
        return len(history) >= MIN_DAYS and sum(its.messages for its in history) >= MIN_MESSAGES


# What a history needs beside its length in days.
MIN_DAYS: Final = 3
MIN_MESSAGES: Final = 20


def cell_of(hour: int) -> int:
    """The hour of the day, of a weekday or of a weekend."""
    return hour % 24 + (24 if (hour // 24 - _SATURDAY) % 7 < 2 else 0)


def _cells_around(hour: int) -> tuple[int, int, int]:
    """The cells of an hour and its neighbours: clocks change, and jobs run late."""
    cell = cell_of(hour)
    start, of_day = cell - cell % 24, cell % 24
    return cell, start + (of_day + 1) % 24, start + (of_day - 1) % 24


def record(profile: Profile | None, seen: Observation, learn_days: int) -> Profile:
    """The profile with an observation in it, unless that is older than all its days."""
    today = seen.day
    if profile is None:
        profile = Profile(first_day=today)
    if len(profile.days) >= MAX_DAYS and today < min(profile.days):
        return profile
    horizon = profile.horizon(today)
    has_learned = profile.has_learned(today, learn_days)
    news = _news(profile, seen, horizon, counts_names=has_learned)
    hours = _with_hour(profile.hours, seen)
    before = profile.days.get(today, DayOfUse())
    after = DayOfUse(
        messages=before.messages + seen.messages,
        recipients=before.recipients + seen.recipients,
        peak=max(before.peak, hours.get(seen.hour, 0)),
        new_recipients=before.new_recipients + news.new_recipients,
        refused=before.refused + seen.refused,
        bounced=before.bounced + seen.bounced,
        networks=before.networks + news.networks,
        authors=before.authors + news.authors,
        domains=before.domains + news.domains,
        odd=before.odd + news.odd,
        outside=before.outside + seen.outside,
        has_alarm=before.has_alarm,
    )
    return structs.replace(
        _remembering(profile, seen),
        first_day=min(profile.first_day, today),
        hours=hours,
        days=_bounded({**profile.days, today: after}),
    )


def _remembering(profile: Profile, seen: Observation) -> Profile:
    today = seen.day
    domains = {domain_of(author) for author in seen.authors}
    cells = (cell_of(seen.hour),) if seen.messages else ()
    return structs.replace(
        profile,
        networks=names_seen(profile.networks, seen.networks, today, MAX_NAMES),
        domains=names_seen(profile.domains, domains, today, MAX_NAMES),
        authors=profile.authors.seen(map(hash_of, seen.authors), today, MAX_AUTHORS),
        recipients=profile.recipients.seen(seen.addresses, today, MAX_RECIPIENTS),
        cells=profile.cells.seen(cells, today, _CELLS),
    )


def _news(
    profile: Profile, seen: Observation, horizon: Horizon, *, counts_names: bool
) -> DayOfUse:
    """The figures that new things in an observation add; each counts once a day."""
    today, recipients = seen.day, profile.recipients
    new_recipients = {
        key
        for key in seen.addresses
        if recipients.has_in_sample(key) and _is_new(recipients.spans.get(key), horizon, today)
    }
    if not counts_names:
        return DayOfUse(new_recipients=len(new_recipients) * recipients.weight)
    authors = profile.authors
    domains = {domain_of(author) for author in seen.authors}
    new_authors = {
        key
        for key in map(hash_of, seen.authors)
        if authors.has_in_sample(key) and _is_new(authors.spans.get(key), horizon, today)
    }
    spans = profile.cells.spans
    is_usual = any(horizon.knows(spans.get(cell)) for cell in _cells_around(seen.hour))
    return DayOfUse(
        new_recipients=len(new_recipients) * recipients.weight,
        networks=sum(
            _is_new(profile.networks.get(one), horizon, today) for one in seen.networks
        ),
        authors=len(new_authors) * authors.weight,
        domains=sum(_is_new(profile.domains.get(one), horizon, today) for one in domains),
        odd=0 if is_usual else seen.recipients,
    )


def _is_new(span: Span | None, horizon: Horizon, today: int) -> bool:
    """True if it is not known, and this is its first use today."""
    return span is None or (span[1] < today and not horizon.knows(span))


def _with_hour(hours: Mapping[int, int], seen: Observation) -> dict[int, int]:
    after = {**hours, seen.hour: hours.get(seen.hour, 0) + seen.recipients}
    if len(after) > _MAX_HOURS:
        least = sorted(after)[-_MAX_HOURS]
        after = {hour: number for hour, number in after.items() if hour >= least}
    return after


def _bounded(days: dict[int, DayOfUse]) -> dict[int, DayOfUse]:
    """The latest days; of those with an alarm only a few, so that a history remains."""
    alarms = sorted(day for day, its in days.items() if its.has_alarm)
    for day in alarms[:-_MAX_ALARM_DAYS]:
        del days[day]
    for day in sorted(days)[:-MAX_DAYS]:
        del days[day]
    return days


def with_alarm(profile: Profile, day: int) -> Profile:
    """The profile with an alarm on that day."""
    its = profile.days.get(day, DayOfUse())
    if its.has_alarm:
        return profile
    days = {**profile.days, day: structs.replace(its, has_alarm=True)}
    return structs.replace(profile, days=_bounded(days))


def joined(one: Profile, other: Profile) -> Profile:
    """The profiles of one key by two gates, as one: the greater figure, and all that is known.

    The order does not matter, and joining again changes nothing. Figures are not added: each
    gate of several judges what it has relayed itself.
    """
    if one.epoch != other.epoch:
        return one if one.epoch > other.epoch else other
    hours = {
        hour: max(one.hours.get(hour, 0), other.hours.get(hour, 0))
        for hour in sorted({*one.hours, *other.hours})[-_MAX_HOURS:]
    }
    days = {
        day: _most(one.days.get(day, DayOfUse()), other.days.get(day, DayOfUse()))
        for day in {*one.days, *other.days}
    }
    return Profile(
        epoch=one.epoch,
        first_day=min(one.first_day, other.first_day),
        hours=hours,
        days=_bounded(days),
        networks=names_joined(one.networks, other.networks, MAX_NAMES),
        domains=names_joined(one.domains, other.domains, MAX_NAMES),
        authors=one.authors.joined(other.authors, MAX_AUTHORS),
        recipients=one.recipients.joined(other.recipients, MAX_RECIPIENTS),
        cells=one.cells.joined(other.cells, _CELLS),
        notice=max(one.notice, other.notice),
        alarm=max(one.alarm, other.alarm),
    )


def taught(profile: Profile, today: int, epoch: int) -> Profile:
    """The profile once its use was confirmed: all is history, and the day begins again."""
    last = today - _JUDGED_DAYS
    confirmed: list[DayOfUse] = []
    days: dict[int, DayOfUse] = {}
    for day, its in profile.days.items():
        if day <= today and (day > last or its.has_alarm):
            confirmed.append(its)
        else:
            days[day] = its
    for its in confirmed:
        days[last] = _most(days.get(last, DayOfUse()), structs.replace(its, has_alarm=False))

    def confirmed_span(span: Span) -> Span:
        return (min(span[0], last), span[1]) if span[0] <= today else span

    def known(spans: Mapping[int, Span]) -> dict[int, Span]:
        return {key: confirmed_span(span) for key, span in spans.items()}

    def known_names(spans: Mapping[str, Span]) -> dict[str, Span]:
        return {key: confirmed_span(span) for key, span in spans.items()}

    return _began_again(
        profile,
        epoch,
        days=_bounded(days),
        networks=known_names(profile.networks),
        domains=known_names(profile.domains),
        sketches=[
            Sketch(one.level, known(one.spans))
            for one in (profile.authors, profile.recipients, profile.cells)
        ],
    )


def without_alarm(profile: Profile, today: int, epoch: int) -> Profile:
    """The profile once the use was stopped: what is not history is forgotten."""
    horizon = profile.horizon(today)

    def names(spans: Mapping[str, Span]) -> dict[str, Span]:
        return {key: span for key, span in spans.items() if horizon.knows(span)}

    days = {
        day: its
        for day, its in profile.days.items()
        if day <= horizon.day and not its.has_alarm
    }
    return _began_again(
        profile,
        epoch,
        days=days,
        networks=names(profile.networks),
        domains=names(profile.domains),
        sketches=[
            Sketch(one.level, {k: span for k, span in one.spans.items() if horizon.knows(span)})
            for one in (profile.authors, profile.recipients, profile.cells)
        ],
    )


def _began_again(
    profile: Profile,
    epoch: int,
    *,
    days: dict[int, DayOfUse],
    networks: dict[str, Span],
    domains: dict[str, Span],
    sketches: Iterable[Sketch],
) -> Profile:
    authors, recipients, cells = sketches
    return Profile(
        epoch=epoch,
        first_day=profile.first_day,
        days=days,
        networks=networks,
        domains=domains,
        authors=authors,
        recipients=recipients,
        cells=cells,
    )
