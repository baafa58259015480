"""What parts of the gate are asked at each scrape, in another thread than the event loop's."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smtpgate.metrics.catalogue import CATALOGUE


def _family(name: str) -> GaugeMetricFamily:
    row = CATALOGUE[name]
    return GaugeMetricFamily(row.name, row.meaning, labels=row.labels)


def _plain(name: str, value: float) -> Metric:
    """A metric without labels."""
    row = CATALOGUE[name]
    kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    return kind(row.name, row.meaning, value=value)


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

    @property
    def connection_limit(self) -> int:
        """How many connections there may be now."""


class Upstreams(Collector):
    """Asks the upstreams for their connections at each scrape."""

    def __init__(self) -> None:
        self.pools: tuple[tuple[str, Pool], ...] = ()

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        connections = _family("smtpgate_upstream_connections")
        waiting = _family("smtpgate_upstream_waiting")
        limit = _family("smtpgate_upstream_connection_limit")
        for name, pool in self.pools:
            idle = pool.idle_connections
            connections.add_metric([name, "busy"], max(pool.open_connections - idle, 0))
            connections.add_metric([name, "idle"], idle)
            waiting.add_metric([name], pool.waiting)
            limit.add_metric([name], pool.connection_limit)
        yield connections
        yield waiting
        yield limit


class Certificate(Protocol):
    """What is asked of a listener's certificate."""

    @property
    def not_after(self) -> datetime:
        """When it ends."""


class Certificates(Collector):
    """Asks the certificates when they end at each scrape."""

    def __init__(self, certificates: Mapping[str, Certificate]) -> None:
        self._certificates = certificates

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        ends = _family("smtpgate_certificate_not_after_timestamp_seconds")
        for listener, certificate in self._certificates.items():
            ends.add_metric([listener], certificate.not_after.timestamp())
        yield ends


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
        """The values at a scrape."""
        directory, cache = self._directory, self._directory.cache
        yield _plain("smtpgate_directory_up", 0 if directory.problem else 1)
        yield _plain("smtpgate_directory_age_seconds", directory.age_s)
        yield _plain("smtpgate_directory_cache_entries", len(cache))
        yield _plain("smtpgate_directory_cache_octets", cache.octets)
        row = CATALOGUE["smtpgate_directory_answers_total"]
        answers = CounterMetricFamily(row.name, row.meaning, labels=row.labels)
        answers.add_metric(["cache"], cache.hits)
        answers.add_metric(["database"], cache.misses)
        yield answers


class Documents(Collector):
    """Asks at each scrape what documents found otherwise when they were applied."""

    def __init__(self, drift: Callable[[], int]) -> None:
        self._drift = drift

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        yield _plain("smtpgate_directory_drift", self._drift())


class Ledger(Protocol):
    """What is asked of a ledger."""

    @property
    def problem(self) -> str | None:
        """Why it cannot count."""

    @property
    def skew_s(self) -> float:
        """How far its store's clock is ahead of this host's."""


class Ledgers(Collector):
    """Asks the ledger how it stands at each scrape."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        yield _plain("smtpgate_ledger_up", 0 if self._ledger.problem else 1)
        yield _plain("smtpgate_ledger_clock_skew_seconds", self._ledger.skew_s)


class PacerTally(Protocol):
    """What a pacer held so far."""

    messages: int
    seconds: float


class Pacer(Protocol):
    """What is asked of a pacer."""

    held: int

    @property
    def tally(self) -> PacerTally:
        """What it held so far."""


class Pacers(Collector):
    """Asks the pacer how many messages wait at each scrape."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        yield _plain("smtpgate_held_messages", self._pacer.held)
        yield _plain("smtpgate_held_total", self._pacer.tally.messages)
        yield _plain("smtpgate_held_seconds_total", self._pacer.tally.seconds)


class Log(Protocol):
    """What is asked of the log."""

    @property
    def lost(self) -> int:
        """How many lines it has lost."""


class Logs(Collector):
    """Asks the log what it has lost at each scrape."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        yield _plain("smtpgate_log_lines_lost_total", self._log.lost)


class JournalTally(Protocol):
    """What was written into a journal so far."""

    records: int
    commits: int
    commit_s: float
    failures: int
    lost: int
    left_out: int
    in_doubt: int


class JournalSize(Protocol):
    """How much a journal holds."""

    @property
    def records(self) -> int:
        """How many records there are, about."""

    @property
    def octets(self) -> int:
        """How many octets they take, about."""


class Journal(Protocol):
    """What is asked of a journal."""

    @property
    def problem(self) -> str | None:
        """Why it cannot be written."""

    @property
    def retention_problem(self) -> str | None:
        """Why old records cannot be forgotten."""

    @property
    def owed(self) -> int:
        """How many records wait for that."""

    @property
    def tally(self) -> JournalTally:
        """What was written."""

    @property
    def size(self) -> JournalSize:
        """How much there is."""


class Journals(Collector):
    """Asks the journal how it stands at each scrape."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        journal, tally, size = self._journal, self._journal.tally, self._journal.size
        yield _plain("smtpgate_journal_up", 0 if journal.problem else 1)
        yield _plain("smtpgate_journal_retention_up", 0 if journal.retention_problem else 1)
        yield _plain("smtpgate_journal_records", size.records)
        yield _plain("smtpgate_journal_octets", size.octets)
        yield _plain("smtpgate_journal_owed", journal.owed)
        yield _plain("smtpgate_journal_written_total", tally.records)
        yield _plain("smtpgate_journal_commits_total", tally.commits)
        yield _plain("smtpgate_journal_commit_seconds_total", tally.commit_s)
        yield _plain("smtpgate_journal_failures_total", tally.failures)
        yield _plain("smtpgate_journal_lost_total", tally.lost)
        yield _plain("smtpgate_journal_left_out_total", tally.left_out)
        yield _plain("smtpgate_journal_in_doubt_total", tally.in_doubt)
