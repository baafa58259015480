"""CPU, memory and open files of all processes of the gate together."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_CPU: Final = "process_cpu_seconds"
# One value is that of the gate: when it started, and how many files one process may open.
_NOT_ADDED: Final = frozenset({"process_start_time_seconds", "process_max_fds"})


class Processes(Collector):
    """The ``process_`` metrics of this process, with those of others added.

    The CPU time of a process that has ended stays, as far as the last scrape saw it: a counter
    must not decrease.
    """

    def __init__(self) -> None:
        self._pids: Callable[[], Iterable[int]] = tuple
        self._collectors: dict[int, ProcessCollector] = {}
        self._cpu_s: dict[int, float] = {}
        self._ended_cpu_s = 0.0
        self._own = ProcessCollector(registry=None)

    def add(self, pids: Callable[[], Iterable[int]]) -> None:
        """Add the processes of these ids at each scrape."""
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """The values at a scrape."""
        metrics = {metric.name: metric for metric in self._own.collect()}
        pids = tuple(self._pids())
        for pid in pids:
            collector = self._collectors.get(pid)
            if collector is None:
                collector = self._collectors[pid] = ProcessCollector(
                    pid=partial(int, pid), registry=None
                )
            for other in collector.collect():
                self._add(metrics.get(other.name), other, pid)
        for pid in self._collectors.keys() - set(pids):
            del self._collectors[pid]
            self._ended_cpu_s += self._cpu_s.pop(pid, 0.0)  # the id may come again
        if _CPU in metrics:
            _increase(metrics[_CPU], sum(self._cpu_s.values(), self._ended_cpu_s))
        return metrics.values()

    def _add(self, metric: Metric | None, other: Metric, pid: int) -> None:
        value = other.samples[0].value
        if other.name == _CPU:
            self._cpu_s[pid] = value
        elif metric is not None and other.name not in _NOT_ADDED:
            _increase(metric, value)


def _increase(metric: Metric, by: float) -> None:
    sample = metric.samples[0]
    metric.samples = [sample._replace(value=sample.value + by)]
