"""The signals of a leaked key, as a table: a figure of today against the key's history.

A signal has steps. A step is reached if the figure is at least its minimum and more than its
factor times what is usual: the most of any day, or the mean of all. Signals of one group see
the same thing from two sides, so only the heaviest of a group counts. The score is their sum.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from smtpgate.core.watch.profile import DayOfUse, Observation, Profile
from smtpgate.core.watch.sketch import hash_of

SignalName = Literal[
    "network",
    "outside-networks",
    "from-domain",
    "from-address",
    "hour-volume",
    "day-volume",
    "new-recipients",
    "refusals",
    "bounces",
    "unusual-hours",
]
Level = Literal["", "notice", "alarm"]
# A score from which on something is noted in the log; the score of an alarm is a setting.
NOTICE_SCORE: Final = 2
ALARM_SCORE: Final = 4
# An estimate from a sample needs so many of it.
_MIN_SAMPLE: Final = 5
_MAX_NAMED: Final = 3


class Threshold(NamedTuple):
    """A weight that counts from a minimum on, and over so many times the usual."""

    factor: float
    minimum: int
    weight: int


class Signal(NamedTuple):
    """A figure of a day that is compared; ``text`` has the figure as ``n``."""

    name: SignalName
    group: str
    figure: str
    usual: Literal["most", "mean"]
    steps: tuple[Threshold, ...]
    text: str
    usual_text: str


_MOST_IN_A_DAY: Final = "the most on any of its last {days} days of use was {usual}"
_NEW: Final = "new ones per day in its last {days} days of use: {usual}"
SIGNALS: Final[tuple[Signal, ...]] = (
    Signal(
        "network",
        "origin",
        "networks",
        "mean",
        (Threshold(3, 1, 2),),
        "it is used from networks that it was not used from before: {n} today",
        _NEW,
    ),
    Signal(
        "outside-networks",
        "origin",
        "outside",
        "most",
        (Threshold(3, 1, 2),),
        "logins with the right password from outside its networks were refused: {n} today",
        _MOST_IN_A_DAY,
    ),
    Signal(
        "from-domain",
        "author",
        "domains",
        "mean",
        (Threshold(3, 1, 2),),
        "its From addresses have domains that it did not use before: {n} today",
        _NEW,
    ),
    Signal(
        "from-address",
        "author",
        "authors",
        "mean",
        (Threshold(3, 1, 1), Threshold(3, 3, 2), Threshold(3, 10, 3), Threshold(3, 30, 4)),
        "it uses From addresses that it did not use before: {n} today",
        _NEW,
    ),
    Signal(
        "hour-volume",
        "volume",
        "peak",
        "most",
        (Threshold(4, 100, 2), Threshold(10, 500, 4)),
        "{n} recipients in an hour",
        "the most in any hour of its last {days} days of use was {usual}",
    ),
    Signal(
        "day-volume",
        "volume",
        "recipients",
        "most",
        (Threshold(4, 200, 2), Threshold(10, 1000, 4)),
        "{n} recipients today",
        _MOST_IN_A_DAY,
    ),
    Signal(
        "new-recipients",
        "recipients",
        "new_recipients",
        "most",
        (Threshold(3, 30, 2),),
        "about {n} recipients today that it did not write to before",
        _MOST_IN_A_DAY,
    ),
    Signal(
        "refusals",
        "failures",
        "refused",
        "most",
        (Threshold(3, 20, 2), Threshold(10, 100, 3)),
        "{n} messages were refused today",
        _MOST_IN_A_DAY,
    ),
    Signal(
        "bounces",
        "failures",
        "bounced",
        "most",
        (Threshold(3, 20, 2),),
        "{n} recipients bounced today",
        _MOST_IN_A_DAY,
    ),
    Signal(
        "unusual-hours",
        "hours",
        "odd",
        "most",
        (Threshold(2, 10, 1),),
        "{n} recipients today at hours of the day at which it is not used",
        _MOST_IN_A_DAY,
    ),
)


# In the first days of a key everything is new.
_OF_NEW_THINGS: Final = frozenset({"networks", "authors", "domains", "new_recipients", "odd"})


class KeyFinding(Struct, frozen=True, gc=False):
    """A signal that is given, with its figures in words."""

    signal: SignalName
    weight: int
    figure: int
    usual: float
    text: str


class Assessment(Struct, frozen=True, gc=False):
    """The findings about a key after an observation, and their score."""

    level: Level = ""
    score: int = 0
    findings: tuple[KeyFinding, ...] = ()

    @property
    def signals(self) -> tuple[SignalName, ...]:
        """The names of the signals, in the order of the table."""
        return tuple(one.signal for one in self.findings)


def assess(profile: Profile, seen: Observation, alarm_score: int) -> Assessment:
    """Judge the day of an observation that the profile has in it already."""
    today = seen.day
    its = profile.days.get(today, DayOfUse())
    history, later = profile.history(today), profile.later_history(today)
    found = [
        finding
        for signal in SIGNALS
        for days in [later if signal.figure in _OF_NEW_THINGS else history]
        if (finding := _finding(signal, its, days, profile, seen)) is not None
    ]
    weights: dict[str, int] = {}
    for signal in SIGNALS:
        for one in found:
            if one.signal == signal.name:
                weights[signal.group] = max(one.weight, weights.get(signal.group, 0))
    score = sum(weights.values())
    level: Level = (
        "alarm" if score >= alarm_score else "notice" if score >= NOTICE_SCORE else ""
    )
    return Assessment(level, score, tuple(found))


def _finding(
    signal: Signal,
    today: DayOfUse,
    history: Sequence[DayOfUse],
    profile: Profile,
    seen: Observation,
) -> KeyFinding | None:
    figure: int = getattr(today, signal.figure)
    if not figure:
        return None
    figures = [getattr(day, signal.figure) for day in history] or [0]
    usual = max(figures) if signal.usual == "most" else sum(figures) / len(figures)
    least = _least_estimate(signal, profile)
    weight = max(
        (
            step.weight
            for step in signal.steps
            if figure >= max(step.minimum, least) and figure > step.factor * usual
        ),
        default=0,
    )
    if not weight:
        return None
    text = signal.text.format(n=f"{figure:,}") + _such_as(signal, profile, seen)
    than = signal.usual_text.format(days=len(history), usual=_shown(usual))
    return KeyFinding(signal.name, weight, figure, usual, f"{text}; {than}")


def _least_estimate(signal: Signal, profile: Profile) -> int:
    """An estimate from few of a sample says nothing."""
    sketches = {"new_recipients": profile.recipients, "authors": profile.authors}
    sketch = sketches.get(signal.figure)
    return 0 if sketch is None or not sketch.level else _MIN_SAMPLE * sketch.weight


def _shown(usual: float) -> str:
    return f"{usual:,.0f}" if usual == int(usual) else f"{usual:.2f}"


def _such_as(signal: Signal, profile: Profile, seen: Observation) -> str:
    """Some of the new names, where the profile or the observation has them."""
    horizon, today = profile.horizon(seen.day), seen.day
    names: list[str] = []
    if signal.figure in ("networks", "domains"):
        spans = profile.networks if signal.figure == "networks" else profile.domains
        names = [
            name for name, span in spans.items() if span[1] == today and not horizon.knows(span)
        ]
    elif signal.figure == "authors":
        names = [
            author
            for author in seen.authors
            if not horizon.knows(profile.authors.spans.get(hash_of(author)))
        ]
    elif signal.figure == "outside" and seen.outside:
        names = [seen.network]
    return f" ({', '.join(sorted(names)[:_MAX_NAMED])})" if names else ""
