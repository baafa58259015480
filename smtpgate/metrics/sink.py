"""The sink that counts events into the metrics of the catalogue.

The children that the path of a message uses are stored, because ``labels()`` costs three times
as much as the counting itself.
"""

import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

import smtpgate
from smtpgate.config.sections import MetricsConfig
from smtpgate.core.account import UNLIMITED
from smtpgate.core.events import (
    Authenticated,
    AuthFailed,
    BudgetExhausted,
    CommandRefused,
    Event,
    HandshakeFailed,
    IdentitiesChecked,
    IdentityStateChanged,
    MailRefused,
    MessageCutOff,
    SessionClosed,
    SessionOpened,
    SessionsEnded,
    Stage,
    SubmissionDone,
)
from smtpgate.metrics.bounded import UNKNOWN, Quotas, Shares
from smtpgate.metrics.catalogue import CATALOGUE, MetricRow
from smtpgate.metrics.histogram import Histogram
from smtpgate.metrics.known import known_series
from smtpgate.metrics.pauses import GENERATIONS, Pauses
from smtpgate.metrics.scraped import Readings, Source
from smtpgate.ports import Clock

C = TypeVar("C", bound=Collector)
M = TypeVar("M", Counter, Gauge)


# Events that increase a counter by one: its name, and the values of its labels.
_COUNTED: Final[Mapping[type[Event], tuple[str, Callable[[Any], tuple[str, ...]]]]] = {
    MailRefused: ("smtpgate_mail_refused_total", lambda event: (event.reason,)),
    BudgetExhausted: (
        "smtpgate_budget_exhausted_total",
        lambda event: (event.client.listener, event.budget),
    ),
    CommandRefused: (
        "smtpgate_commands_refused_total",
        lambda event: (event.client.listener, event.verb, str(event.reply.code)),
    ),
    MessageCutOff: (
        "smtpgate_messages_cut_off_total",
        lambda event: (event.client.listener, event.by),
    ),
    HandshakeFailed: (
        "smtpgate_handshakes_failed_total",
        lambda event: (event.client.listener, event.problem),
    ),
    Authenticated: ("smtpgate_auth_successes_total", lambda event: (event.client.listener,)),
    AuthFailed: (
        "smtpgate_auth_failures_total",
        lambda event: (event.client.listener, event.reason),
    ),
    IdentityStateChanged: (
        "smtpgate_identity_state_changes_total",
        lambda event: (event.state,),
    ),
}


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


class Metrics:
    """Counts events; implements the EventSink port."""

    def __init__(
        self,
        settings: MetricsConfig,
        *,
        clock: Clock,
        listeners: Iterable[str] = (),
    ) -> None:
        self._clock = clock
        self._known = known_series(listeners)
        self._unbegun: list[tuple[Counter | Gauge, tuple[str, ...]]] = []
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._submissions = self._counter("smtpgate_submissions_total")
        self._outcomes: dict[tuple[str, str], Counter] = {}
        self._shares = Shares(
            self._counter("smtpgate_identity_messages_total"),
            self._counter("smtpgate_identity_recipients_total"),
            places=settings.max_identities,
            idle_s=settings.idle_s,
        )
        self._quotas = self._collected(
            Quotas(
                CATALOGUE["smtpgate_account_quota_used_ratio"],
                places=settings.max_identities,
                idle_s=settings.idle_s,
                clock=clock,
            )
        )
        self._stages = self._histogram("smtpgate_stage_seconds", get_args(Stage)).series
        self._duration = self._histogram("smtpgate_submission_seconds").series[""]
        self._octets = self._histogram("smtpgate_message_octets").series[""]
        self._quota_reached = self._counter("smtpgate_quota_reached_total")
        self._uncounted = self._counter("smtpgate_uncounted_total")
        self._long_lines = self._counter("smtpgate_long_lines_total")
        self._sessions = self._gauge("smtpgate_sessions")
        self._ended_sessions = self._counter("smtpgate_sessions_ended_total")
        self._missing = self._gauge("smtpgate_identities_missing")
        self._dkim_alarms = self._gauge("smtpgate_dkim_alarms")
        self._readings = self._collected(Readings())
        self.pauses = self._pauses()
        self._gauge("smtpgate_build_info").labels(
            smtpgate.__version__, platform.python_version()
        ).set(1)
        self._counted = {
            event: (self._counter(name), labels_of)
            for event, (name, labels_of) in _COUNTED.items()
        }
        self._readers = self._other_readers()

    def _other_readers(self) -> dict[type[Event], Callable[..., None]]:
        return {
            SubmissionDone: self._count_submission,
            SessionOpened: self._count_opened,
            SessionClosed: self._count_closed,
            SessionsEnded: self._count_ended,
            IdentitiesChecked: self._note_troubles,
        }

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

    def publish(self, event: Event) -> None:
        """Count the event."""
        counted = self._counted.get(type(event))
        if counted is not None:
            counter, labels_of = counted
            counter.labels(*labels_of(event)).inc()
            return
        reader = self._readers.get(type(event))
        if reader is not None:
            reader(event)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format. Takes milliseconds: call it in a thread."""
        for metric, labels in self._unbegun:
            metric.labels(*labels)
        self._unbegun = []
        return generate_latest(_WithoutCreated(self._registry))

    # -- what an event changes -----------------------------------------------------------------

    def _count_submission(self, done: SubmissionDone) -> None:
        submission, now_s = done.submission, self._clock.monotonic()
        verdict = (done.outcome, done.reason)
        counter = self._outcomes.get(verdict)
        if counter is None:
            counter = self._outcomes[verdict] = self._submissions.labels(*verdict)
        counter.inc()
        account = submission.principal.account
        self._shares.count(
            (done.from_identity or UNKNOWN, account.id),
            done.outcome,
            len(submission.envelope.recipients),
            now_s,
        )
        limit = done.charges[0].limits.max_24h_send if done.charges else UNLIMITED
        if done.used_24h is not None and limit != UNLIMITED:
            self._quotas.note(account.id, done.used_24h / limit if limit else 1.0, now_s)
        for one in done.crossings:
            self._quota_reached.labels(one.charge.subject.kind, str(one.percent)).inc()
        if done.uncounted:
            self._uncounted.inc()
        if done.long_line is not None and done.outcome == "accepted":
            self._long_lines.inc()
        for stage, seconds in done.stage_s.items():
            self._stages[stage].observe(seconds)
        if done.done_at is not None:
            seconds = (done.done_at - submission.received_at).total_seconds()
            self._duration.observe(max(seconds, 0.0))  # the wall clock may be set back
        self._octets.observe(len(submission.message))

    def _count_opened(self, event: SessionOpened) -> None:
        self._sessions.labels(event.listener).inc()

    def _count_closed(self, event: SessionClosed) -> None:
        self._sessions.labels(event.listener).dec()

    def _count_ended(self, event: SessionsEnded) -> None:
        self._ended_sessions.labels(event.reason).inc(event.sessions)

    def _note_troubles(self, event: IdentitiesChecked) -> None:
        self._missing.set(event.troubles.identities_missing)
        self._dkim_alarms.set(event.troubles.dkim_alarms)

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
        return self._collected(Histogram(CATALOGUE[name], values))

    def _collected(self, collector: C) -> C:
        self._registry.register(collector)
        return collector
