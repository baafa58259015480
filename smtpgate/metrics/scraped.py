"""What parts of the gate are asked at each scrape, in another thread than the event loop's."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smtpgate.metrics.catalogue import CATALOGUE

__all__ = ["Directories", "Directory", "DirectoryCache", "Pool", "Upstreams"]


def _family(name: str) -> GaugeMetricFamily:
    row = CATALOGUE[name]
    return GaugeMetricFamily(row.name, row.meaning, labels=row.labels)


class Pool(Protocol):
    """What is asked of an upstream."""

    @property
    def open_connections(self) -> int:
        """All connections, idle ones too."""

    @property
    def idle_connections(self) -> int:
        """Connections that wait for work."""

    @property
    def waiting(self) -> int:
        """Messages that wait for a connection."""


class Upstreams(Collector):
    """Asks the upstreams for their connections at each scrape."""

    def __init__(self) -> None:
        self.pools: tuple[tuple[str, Pool], ...] = ()

    def collect(self) -> Iterable[Metric]:
        """What is told at a scrape."""
        connections = _family("smtpgate_upstream_connections")
        waiting = _family("smtpgate_upstream_waiting")
        for name, pool in self.pools:
            idle = pool.idle_connections
            connections.add_metric([name, "busy"], max(pool.open_connections - idle, 0))
            connections.add_metric([name, "idle"], idle)
            waiting.add_metric([name], pool.waiting)
        yield connections
        yield waiting


class DirectoryCache(Protocol):
    """What is asked of the answers that are kept at hand."""

    octets: int
    hits: int
    misses: int

    def __len__(self) -> int: ...


class Directory(Protocol):
    """What is asked of a directory."""

    @property
    def problem(self) -> str | None:
        """Why its database cannot be asked."""

    @property
    def age_s(self) -> float:
        """How old its newest knowledge is."""

    @property
    def cache(self) -> DirectoryCache:
        """What it keeps."""


class Directories(Collector):
    """Asks the directory how it stands at each scrape."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """What is told at a scrape."""
        directory, cache = self._directory, self._directory.cache
        for name, value in (
            ("smtpgate_directory_up", 0 if directory.problem else 1),
            ("smtpgate_directory_age_seconds", directory.age_s),
            ("smtpgate_directory_cache_entries", len(cache)),
            ("smtpgate_directory_cache_octets", cache.octets),
        ):
            family = _family(name)
            family.add_metric([], value)
            yield family
        row = CATALOGUE["smtpgate_directory_answers_total"]
        answers = CounterMetricFamily(row.name, row.meaning, labels=row.labels)
        answers.add_metric(["cache"], cache.hits)
        answers.add_metric(["database"], cache.misses)
        yield answers
