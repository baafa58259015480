"""The readings that parts of the gate offer, collected at each scrape."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smtpgate.metrics.catalogue import CATALOGUE, Together
from smtpgate.ports import Reading

Source = Callable[[], Iterable[Reading]]
"""Offers the readings of one part, or of several."""
_TOGETHER: Final[Mapping[Together, Callable[[list[float]], float]]] = {
    "sum": sum,
    "least": min,
    "most": max,
}


class Scrape(Protocol):
    """The metrics as parts of the gate know them: they offer readings."""

    def watch(self, source: Source) -> None:
        """Show the readings of that source in each scrape from now on."""

    def forget(self, source: Source) -> None:
        """Show them no more; what its counters counted stays counted."""


class KeptCounters:
    """The counters of sources that are gone: no counter decreases when its source goes."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[str, ...]], float] = {}

    def keep(self, source: Source) -> None:
        """Keep what the counters of a source have counted."""
        for metric, value, labels in source():
            if CATALOGUE[metric].kind == "counter":
                self._values[metric, labels] = self._values.get((metric, labels), 0) + value

    def readings(self) -> Iterator[Reading]:
        """Their values."""
        for (metric, labels), value in tuple(self._values.items()):
            yield Reading(metric, value, labels)


class Readings(Collector):
    """Asks every source for its readings at each scrape."""

    def __init__(self) -> None:
        self._kept = KeptCounters()
        self._sources: tuple[Source, ...] = (self._kept.readings,)

    def add(self, source: Source) -> None:
        """Ask this source too, from now on."""
        self._sources = (*self._sources, source)

    def remove(self, source: Source) -> None:
        """Ask it no more; its counters stay as they are."""
        self._kept.keep(source)
        self._sources = tuple(one for one in self._sources if one != source)

    def collect(self) -> Iterator[Metric]:
        """The values at a scrape, each metric once.

        Where several sources have the same series, as several workers do, its row says how
        their values become one.
        """
        for name, series in self.values().items():
            row = CATALOGUE[name]
            kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
            family = kind(row.name, row.meaning, labels=row.labels)
            for labels, value in series.items():
                family.add_metric(labels, value)
            yield family

    def values(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The values now, by metric and labels."""
        found: dict[str, dict[tuple[str, ...], list[float]]] = {}
        for source in self._sources:
            for reading in source():
                series = found.setdefault(reading.metric, {})
                series.setdefault(reading.labels, []).append(reading.value)
        return {
            name: {
                labels: _TOGETHER[CATALOGUE[name].together](values)
                for labels, values in series.items()
            }
            for name, series in found.items()
        }
