"""The sink that counts events into the metrics of the catalogue.

What the path of a message counts is in dictionaries and histograms of our own: a counter of
prometheus_client takes a lock and four calls for each message, and ``labels()`` three times as
much.
"""

import collections
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Final, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

import smtpgate
from smtpgate.config.sections import MetricsConfig
from smtpgate.core.events import (
    Event,
    IdentitiesChecked,
    ReputationsJudged,
    SessionClosed,
    SessionOpened,
    Stage,
    SubmissionDone,
)
from smtpgate.core.reputation.sender import RatedKind
from smtpgate.core.reputation.states import UNHEALTHY
from smtpgate.metrics.bounded import OTHER, Quotas, Shares
from smtpgate.metrics.catalogue import CATALOGUE, MetricRow
from smtpgate.metrics.histogram import Histogram, HistogramState
from smtpgate.metrics.known import known_series
from smtpgate.metrics.observed import (
    COUNTERS,
    Count,
    SubmissionSums,
    SubmissionTally,
    VerdictSum,
    counts_of,
)
from smtpgate.metrics.pauses import GENERATIONS, Pauses
from smtpgate.metrics.processes import Processes
from smtpgate.metrics.scraped import Readings, Source
from smtpgate.metrics.sessions import OpenSessions
from smtpgate.ports import Clock, Reading

_MOST_TALLIED: Final = 2000
# Submissions that are counted together. They count as of the last one's moment.
_MOST_WAITING: Final = 32
_LONGEST_WAIT_S: Final = 1.0

C = TypeVar("C", bound=Collector)
M = TypeVar("M", Counter, Gauge)


class _WithoutCreated(Collector):
    """A registry without its ``_created`` samples: they double a scrape without use."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        for metric in self._registry.collect():
            metric.samples = [
                sample for sample in metric.samples if not sample.name.endswith("_created")
            ]
            yield metric


class VerdictTally:
    """The submissions of a while by account and verdict, for a bounded number of those."""

    def __init__(self) -> None:
        self._counts: collections.Counter[tuple[str, str, str]] = collections.Counter()

    def add(self, account: str, outcome: str, reason: str, messages: int) -> None:
        """Count so many."""
        key = account, outcome, reason
        if key not in self._counts and len(self._counts) >= _MOST_TALLIED:
            key = OTHER, outcome, ""
        self._counts[key] += messages

    def take(self) -> list[tuple[tuple[str, str, str], int]]:
        """The counts since the last time, the largest first."""
        counts, self._counts = self._counts.most_common(), collections.Counter()
        return counts


class Metrics:
    """Counts events; implements the EventSink port."""

    def __init__(
        self,
        settings: MetricsConfig,
        *,
        clock: Clock,
        listeners: Sequence[str] = (),
        upstreams: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self._known = known_series(listeners, upstreams)
        self.tallies: list[VerdictTally] = []  # of those that watch the gate now
        self._unbegun: list[tuple[Counter | Gauge, tuple[str, ...]]] = []
        self._histograms: dict[str, Histogram] = {}
        self._registry = CollectorRegistry()
        self.processes = self._collected(Processes())
        self._submissions = dict.fromkeys(self._known["smtpgate_submissions_total"], 0)
        self._shares = Shares(
            places=settings.max_identities,
            idle_s=settings.idle_s,
            outcomes=[one[-1] for one in self._known["smtpgate_identity_messages_total"]],
        )
        self._quotas = self._collected(
            Quotas(
                CATALOGUE["smtpgate_account_quota_used_ratio"],
                places=settings.max_identities,
                idle_s=settings.idle_s,
                clock=clock,
            )
        )
        self._histogram("smtpgate_stage_seconds", get_args(Stage))
        self._histogram("smtpgate_submission_seconds")
        self._histogram("smtpgate_message_octets")
        self._counting = threading.Lock()  # a scrape counts in a thread of its own
        self._waiting = SubmissionTally()
        self._waits_until_s = self._last_s = float("-inf")
        self._missing = self._gauge("smtpgate_identities_missing")
        self._dkim_alarms = self._gauge("smtpgate_dkim_alarms")
        self._senders = self._gauge("smtpgate_reputation_senders")
        self._readings = self._collected(Readings())
        self.pauses = self._pauses()
        self._sessions = OpenSessions(listeners)
        self.watch(self._sessions.readings)
        self.watch(self._verdicts)
        self._gauge("smtpgate_build_info").labels(
            smtpgate.__version__, platform.python_version()
        ).set(1)
        self._counters = {name: self._counter(name) for name in sorted(COUNTERS)}
        self._series: dict[tuple[str, tuple[str, ...]], Counter] = {}

    def _pauses(self) -> Pauses:
        pauses = Pauses(
            self._histogram("smtpgate_loop_delay_seconds").series[""],
            self._histogram("smtpgate_collector_pause_seconds", GENERATIONS).series,
            self._clock,
        )
        self.watch(pauses.readings)
        return pauses

    def watch(self, source: Source) -> None:
        """Show the readings of that source in each scrape from now on."""
        self._readings.add(source)

    def forget(self, source: Source) -> None:
        """Show them no more; what its counters counted stays counted."""
        self._readings.remove(source)

    def watch_histograms(self, source: Callable[[], Iterable[HistogramState]]) -> None:
        """Add what others have observed in each scrape from now on."""
        for histogram in self._histograms.values():
            histogram.add(source)

    def publish(self, event: Event) -> None:
        """Count the event."""
        if isinstance(event, SubmissionDone):
            self._note_submission(event)
            for count in counts_of(event):
                self.count(count)
        elif isinstance(event, SessionOpened | SessionClosed):
            self.pauses.note_work()
            self._sessions.note(event)
        elif isinstance(event, ReputationsJudged):
            for kind, status in product(get_args(RatedKind), UNHEALTHY):
                self._senders.labels(kind, status).set(event.troubled.get((kind, status), 0))
        elif isinstance(event, IdentitiesChecked):
            self._missing.set(event.troubles.identities_missing)
            self._dkim_alarms.set(event.troubles.dkim_alarms)
        else:
            for count in counts_of(event):
                self.count(count)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format. Takes milliseconds: call it in a thread."""
        self.count_waiting()
        for metric, labels in self._unbegun:
            metric.labels(*labels)
        self._unbegun = []
        return generate_latest(_WithoutCreated(self._registry)) + self._shares.render()

    # -- what is shown of a running gate -------------------------------------------------------

    def values(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The values that the parts of the gate have now, by metric and labels."""
        return self._readings.values()

    def quotas(self) -> list[tuple[str, float]]:
        """The shares of their quotas that accounts have used lately."""
        self.count_waiting()
        return self._quotas.ratios()

    # -- what an event changes -----------------------------------------------------------------

    def count(self, count: Count) -> None:
        """Increase a counter."""
        self.pauses.note_work()
        key = count.metric, count.labels
        series = self._series.get(key)
        if series is None:
            # labels() takes a lock and compares all values, each time.
            series = self._counters[count.metric]
            if count.labels:
                series = series.labels(*count.labels)
            self._series[key] = series
        series.inc(count.by)

    def count_submissions(self, sums: SubmissionSums) -> None:
        """Count the submissions of another process."""
        self.pauses.note_work()
        with self._counting:
            self._count_submissions(sums, self._clock.monotonic())

    def count_waiting(self) -> None:
        """Count the submissions of this process that wait to be counted together."""
        with self._counting:
            self._count_waiting()

    def _note_submission(self, done: SubmissionDone) -> None:
        self.pauses.note_work()
        now_s = self._clock.monotonic()
        with self._counting:
            if len(self._waiting) >= _MOST_WAITING or now_s >= self._waits_until_s:
                self._count_waiting()
                self._waits_until_s = now_s + _LONGEST_WAIT_S
            self._waiting.add(done)
            self._last_s = now_s
            if self.tallies:  # so that no scrape adds to them in its thread
                self._count_waiting()

    def _count_waiting(self) -> None:
        sums = self._waiting.sums()
        if sums is not None:
            self._waiting = SubmissionTally()
            self._count_submissions(sums, self._last_s)

    def _count_submissions(self, sums: SubmissionSums, now_s: float) -> None:
        for verdict in sums.verdicts:
            self._count_verdict(verdict, now_s)
        for account, ratio in sums.quota_ratios.items():
            self._quotas.note(account, ratio, now_s)
        for one in sums.observed:
            self._histograms[one.metric].series[one.value].add(one)

    def _count_verdict(self, one: VerdictSum, now_s: float) -> None:
        for tally in self.tallies:
            tally.add(one.account, one.outcome, one.reason, one.messages)
        verdict = (one.outcome, one.reason)
        self._submissions[verdict] = self._submissions.get(verdict, 0) + one.messages
        pair = (one.identity, one.account)
        self._shares.count(pair, one.outcome, one.recipients, now_s, one.messages)

    def _verdicts(self) -> Iterator[Reading]:
        """The submissions by their verdict, for a scrape."""
        for verdict, submissions in tuple(self._submissions.items()):
            yield Reading("smtpgate_submissions_total", submissions, verdict)

    # -- the catalogue's rows as prometheus_client's metrics -----------------------------------

    def _counter(self, name: str) -> Counter:
        row = CATALOGUE[name]
        counter = Counter(name, row.meaning, row.labels, registry=self._registry)
        return self._begun(row, counter)

    def _gauge(self, name: str) -> Gauge:
        row = CATALOGUE[name]
        gauge = Gauge(name, row.meaning, row.labels, registry=self._registry)
        return self._begun(row, gauge)

    def _begun(self, row: MetricRow, metric: M) -> M:
        """The metric; the first scrape has each series that is known beforehand, at 0."""
        self._unbegun += [(metric, labels) for labels in self._known.get(row.name, ())]
        return metric

    def _histogram(self, name: str, values: Iterable[str] = ("",)) -> Histogram:
        histogram = self._histograms[name] = Histogram(CATALOGUE[name], values)
        return self._collected(histogram)

    def _collected(self, collector: C) -> C:
        self._registry.register(collector)
        return collector
