"""Histograms for the path of a message: an observation costs a quarter of prometheus_client's.

All series exist from the start and one thread at a time observes, so neither needs a lock; a
scrape in another thread sees an observation or does not see it yet.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from smtpgate.metrics.catalogue import MetricRow


class Series:
    """The observations for one label value."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value into the first bucket whose upper bound it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, observed: "Observed") -> None:
        """Count values that were observed elsewhere."""
        for bucket, number in observed.counts.items():
            self.counts[bucket] += number
        self.sum += observed.sum

    def state(self, metric: str, value: str) -> "HistogramState":
        """The observations so far, of that metric and label value."""
        return HistogramState(metric, value, tuple(self.counts), self.sum)


class Observed(NamedTuple):
    """Values of one metric and label value: their numbers by bucket, and their sum."""

    metric: str
    value: str
    counts: Mapping[int, int]
    sum: float

    @classmethod
    def of(cls, row: MetricRow, value: str, values: Iterable[float]) -> "Observed":
        """The values, of which there is one at least, counted together.

        In their order only the bounds between the least and the most are looked for: with ten
        values that takes a quarter of the time of a search for each value.
        """
        ordered, bounds = sorted(values), row.buckets
        first, last = bisect_left(bounds, ordered[0]), bisect_left(bounds, ordered[-1])
        counts: dict[int, int] = {}
        counted = 0
        for bucket in range(first, last):
            up_to = bisect_right(ordered, bounds[bucket])
            counts[bucket], counted = up_to - counted, up_to
        counts[last] = len(ordered) - counted
        return cls(row.name, value, counts, sum(ordered))


class HistogramState(NamedTuple):
    """The observations of a process for one label value, so far."""

    metric: str
    value: str
    counts: Sequence[int]
    sum: float

    def plus(self, other: "HistogramState") -> "HistogramState":
        """The observations of both, which are of the same metric and label value."""
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True)))
        return self._replace(counts=counts, sum=self.sum + other.sum)


class Histogram(Collector):
    """A histogram with at most one label, whose values are known beforehand.

    What other processes observed is added at a scrape.
    """

    def __init__(self, row: MetricRow, values: Iterable[str] = ("",)) -> None:
        self._row = row
        self._bounds = [*map(floatToGoString, row.buckets), "+Inf"]
        self.series = {value: Series(row.buckets) for value in values}
        self._others: list[Callable[[], Iterable[HistogramState]]] = []

    def add(self, others: Callable[[], Iterable[HistogramState]]) -> None:
        """Ask that source for the observations of others at each scrape."""
        self._others.append(others)

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        family = HistogramMetricFamily(
            self._row.name, self._row.meaning, labels=self._row.labels
        )
        others = [
            state
            for source in self._others
            for state in source()
            if state.metric == self._row.name
        ]
        for value, series in self.series.items():
            state = series.state(self._row.name, value)
            for other in others:
                if other.value == value:
                    state = state.plus(other)
            buckets = list(zip(self._bounds, accumulate(state.counts), strict=True))
            family.add_metric([value] if self._row.labels else [], buckets, state.sum)
        yield family
