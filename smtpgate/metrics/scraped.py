"""The readings that parts of the gate offer, collected at each scrape."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smtpgate.metrics.catalogue import CATALOGUE
from smtpgate.ports import Reading

Source = Callable[[], Iterable[Reading]]
"""Offers the readings of one part, or of several."""


class Readings(Collector):
    """Asks every source for its readings at each scrape."""

    def __init__(self) -> None:
        self._sources: tuple[Source, ...] = ()

    def add(self, source: Source) -> None:
        """Ask this source too, from now on."""
        self._sources = (*self._sources, source)

    def collect(self) -> Iterator[Metric]:
        """The values at a scrape, each metric once."""
        by_metric: dict[str, list[Reading]] = {}
        for source in self._sources:
            for reading in source():
                by_metric.setdefault(reading.metric, []).append(reading)
        for name, readings in by_metric.items():
            row = CATALOGUE[name]
            kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
            family = kind(row.name, row.meaning, labels=row.labels)
            for reading in readings:
                family.add_metric(reading.labels, reading.value)
            yield family
