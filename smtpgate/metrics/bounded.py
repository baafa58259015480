"""Series by identity and by account, for a bounded number of them.

Senders decide which values both labels have. Without a bound they would fill the memory of the
gate and of Prometheus; so the number of series is limited, and idle ones are removed.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smtpgate.metrics.catalogue import CATALOGUE, MetricRow
from smtpgate.ports import Clock

OTHER: Final = "other"
"""The label of identities and accounts for which there was no room."""
UNKNOWN: Final = "none"
"""The identity label of messages refused before it was known which identity serves From."""

_MESSAGES: Final = CATALOGUE["smtpgate_identity_messages_total"]
_RECIPIENTS: Final = CATALOGUE["smtpgate_identity_recipients_total"]


class _Share(Struct, gc=False):
    """The counts of one identity and account, by outcome."""

    labels: str  # as the text format has them
    messages: dict[str, int]
    recipients: dict[str, int]
    used_at_s: float


class Shares:
    """Counts by identity and account, for a bounded number of such pairs.

    When all places are taken, a new pair takes the place of the pair that was idle longest, if
    that was idle for long enough; otherwise the new pair is counted as ``other``, so that many
    senders in turn do not remove each other's series.

    They are most of a scrape. prometheus_client would take a tenth of a second for a thousand
    pairs, in which its thread and the event loop hinder each other, and its six objects a
    series would be the garbage collector's to look at; so they are counted and written here.
    """

    def __init__(self, *, places: int, idle_s: float, outcomes: Iterable[str]) -> None:
        self._places = places
        self._idle_s = idle_s
        self._shares: OrderedDict[tuple[str, str], _Share] = OrderedDict()
        zeros = dict.fromkeys(outcomes, 0)
        self._other = _Share(_labels((OTHER, OTHER)), zeros, dict(zeros), 0.0)

    def count(
        self,
        pair: tuple[str, str],
        outcome: str,
        recipients: int,
        now_s: float,
        messages: int = 1,
    ) -> None:
        """Count messages, which have so many recipients together."""
        share = self._shares.get(pair)
        if share is None:
            share = self._admitted(pair, now_s)
        else:
            self._shares.move_to_end(pair)
            share.used_at_s = now_s
        share.messages[outcome] = share.messages.get(outcome, 0) + messages
        share.recipients[outcome] = share.recipients.get(outcome, 0) + recipients

    def _admitted(self, pair: tuple[str, str], now_s: float) -> _Share:
        if len(self._shares) >= self._places:
            oldest = next(iter(self._shares.items()), None)
            if oldest is None or now_s - oldest[1].used_at_s < self._idle_s:
                return self._other
            del self._shares[oldest[0]]
        share = self._shares[pair] = _Share(_labels(pair), {}, {}, now_s)
        return share

    def render(self) -> bytes:
        """Both counters in Prometheus' text format; for the thread of a scrape."""
        # The event loop adds pairs meanwhile; copying takes one step of the interpreter.
        shares = [*list(self._shares.values()), self._other]
        lines = [*_head(_MESSAGES)]
        for share in shares:
            lines += _samples(_MESSAGES.name, share, share.messages)
        lines += _head(_RECIPIENTS)
        for share in shares:
            lines += _samples(_RECIPIENTS.name, share, share.recipients)
        return "".join(lines).encode()


def _labels(pair: tuple[str, str]) -> str:
    identity, account = map(_escaped, pair)
    return f'account="{account}",identity="{identity}"'


def _escaped(text: str) -> str:
    r"""A label's value (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _head(row: MetricRow) -> Iterator[str]:
    yield f"# HELP {row.name} {row.meaning}\n"
    yield f"# TYPE {row.name} counter\n"


def _samples(name: str, share: _Share, counts: dict[str, int]) -> Iterator[str]:
    for outcome, count in list(counts.items()):
        yield f'{name}{{{share.labels},outcome="{outcome}"}} {count}.0\n'


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
        for account_id, ratio in self.ratios():
            family.add_metric([account_id], ratio)
        yield family

    def ratios(self) -> list[tuple[str, float]]:
        """The ratios of accounts that were not idle for long."""
        since_s = self._clock.monotonic() - self._idle_s
        with self._lock:
            ratios = list(self._ratios.items())
        return [(one, ratio) for one, (ratio, noted_at_s) in ratios if noted_at_s > since_s]
