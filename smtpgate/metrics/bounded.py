"""Series by identity and by account, for a bounded number of them.

Senders decide which values both labels have. Without a bound they would fill the memory of the
gate and of Prometheus; so the number of series is limited, and idle ones are removed.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smtpgate.metrics.catalogue import MetricRow
from smtpgate.ports import Clock

OTHER: Final = "other"
"""The label of identities and accounts for which there was no room."""
UNKNOWN: Final = "none"
"""The identity label of messages refused before it was known which identity serves From."""


@dataclass(slots=True)
class _Share:
    """The counters of one identity and account."""

    labels: tuple[str, str]
    children: dict[str, tuple[Counter, Counter]]
    used_at_s: float


class Shares:
    """Counts by identity and account, for a bounded number of such pairs.

    When all places are taken, a new pair takes the place of the pair that was idle longest, if
    that was idle for long enough; otherwise the new pair is counted as ``other``, so that many
    senders in turn do not remove each other's series.
    """

    def __init__(
        self, messages: Counter, recipients: Counter, *, places: int, idle_s: float
    ) -> None:
        self._messages = messages
        self._recipients = recipients
        self._places = places
        self._idle_s = idle_s
        self._shares: OrderedDict[tuple[str, str], _Share] = OrderedDict()
        self._other = _Share((OTHER, OTHER), {}, 0.0)

    def count(self, pair: tuple[str, str], outcome: str, recipients: int, now_s: float) -> None:
        """Count one message and its recipients."""
        share = self._shares.get(pair)
        if share is None:
            share = self._admitted(pair, now_s)
        else:
            self._shares.move_to_end(pair)
            share.used_at_s = now_s
        children = share.children.get(outcome)
        if children is None:
            labels = (*share.labels, outcome)
            children = (self._messages.labels(*labels), self._recipients.labels(*labels))
            share.children[outcome] = children
        children[0].inc()
        children[1].inc(recipients)

    def _admitted(self, pair: tuple[str, str], now_s: float) -> _Share:
        if len(self._shares) >= self._places:
            oldest = next(iter(self._shares.values()), None)
            if oldest is None or now_s - oldest.used_at_s < self._idle_s:
                return self._other
            self._drop(oldest)
        share = self._shares[pair] = _Share(pair, {}, now_s)
        return share

    def _drop(self, share: _Share) -> None:
        del self._shares[share.labels]
        for outcome in share.children:
            self._messages.remove(*share.labels, outcome)
            self._recipients.remove(*share.labels, outcome)


class Quotas(Collector):
    """The latest quota ratio of each account, for a bounded number of accounts.

    A ratio is shown until its account was idle for long enough: its messages leave the 24 hours
    meanwhile, and the gauge would still show the old value.
    """

    def __init__(self, row: MetricRow, *, places: int, idle_s: float, clock: Clock) -> None:
        self._row = row
        self._places = places
        self._idle_s = idle_s
        self._clock = clock
        self._lock = threading.Lock()  # the scrape reads in a thread of its own
        self._ratios: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def note(self, account_id: str, ratio: float, now_s: float) -> None:
        """Keep a ratio; of too many accounts the one that was idle longest is dropped."""
        with self._lock:
            self._ratios[account_id] = (ratio, now_s)
            self._ratios.move_to_end(account_id)
            if len(self._ratios) > self._places:
                self._ratios.popitem(last=False)

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        family = GaugeMetricFamily(self._row.name, self._row.meaning, labels=self._row.labels)
        since_s = self._clock.monotonic() - self._idle_s
        with self._lock:
            ratios = list(self._ratios.items())
        for account_id, (ratio, noted_at_s) in ratios:
            if noted_at_s > since_s:
                family.add_metric([account_id], ratio)
        yield family
