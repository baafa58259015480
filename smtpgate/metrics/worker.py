"""The metrics of a worker process, which its parent counts and shows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from smtpgate.core.events import Event, SessionClosed, SessionOpened, SubmissionDone
from smtpgate.metrics.catalogue import CATALOGUE
from smtpgate.metrics.histogram import HistogramState, Series
from smtpgate.metrics.observed import (
    Count,
    SubmissionSums,
    SubmissionTally,
    counts_of,
)
from smtpgate.metrics.pauses import GENERATIONS, Pauses
from smtpgate.metrics.scraped import KeptCounters, Source
from smtpgate.metrics.sessions import OpenSessions
from smtpgate.ports import Clock, Reading


class WorkerMetrics:
    """Collects events until they are taken; implements the EventSink port.

    Counters increase in the parent, so that a worker's end decreases none, and so that the
    bound on identities is one for all workers.
    """

    def __init__(self, *, clock: Clock, listeners: Sequence[str]) -> None:
        self._counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self._submissions = SubmissionTally()
        self._kept = KeptCounters()
        self._sources: list[Source] = [self._kept.readings]
        delays = Series(CATALOGUE["smtpgate_loop_delay_seconds"].buckets)
        bounds = CATALOGUE["smtpgate_collector_pause_seconds"].buckets
        collections = {generation: Series(bounds) for generation in GENERATIONS}
        self.pauses = Pauses(delays, collections, clock)
        self._series = {("smtpgate_loop_delay_seconds", ""): delays} | {
            ("smtpgate_collector_pause_seconds", generation): series
            for generation, series in collections.items()
        }
        self._sessions = OpenSessions(listeners)
        self.watch(self._sessions.readings)
        self.watch(self.pauses.readings)

    def watch(self, source: Source) -> None:
        """Show the readings of that source in each scrape from now on."""
        self._sources.append(source)

    def forget(self, source: Source) -> None:
        """Show them no more; what its counters counted stays counted."""
        self._kept.keep(source)
        self._sources.remove(source)

    def publish(self, event: Event) -> None:
        """Note the event."""
        self.pauses.note_work()
        if isinstance(event, SubmissionDone):
            self._submissions.add(event)
        elif isinstance(event, SessionOpened | SessionClosed):
            self._sessions.note(event)
            return
        for count in counts_of(event):
            self._counts[count.metric, count.labels] += count.by

    def take(self) -> tuple[list[Count], SubmissionSums | None]:
        """The events that were noted since the last time."""
        counts = [Count(*key, by) for key, by in self._counts.items()]
        submissions, self._submissions = self._submissions, SubmissionTally()
        self._counts.clear()
        return counts, submissions.sums()

    def readings(self) -> list[Reading]:
        """The readings of all parts, as they are now."""
        return list(chain.from_iterable(source() for source in self._sources))

    def histograms(self) -> Iterator[HistogramState]:
        """The histograms that are observed here, so far."""
        for (metric, value), series in self._series.items():
            yield series.state(metric, value)
