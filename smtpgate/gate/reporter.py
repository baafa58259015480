"""Reports of a worker to its parent: lines of the log, events that are counted, uses of keys.

They are sent together, a twentieth of a second after the first: a frame a message would cost
both processes a wake-up. So a worker that is killed takes the last twentieth with it, as a
gate that is killed does with its log.
"""

import asyncio
from typing import Final

from smtpgate.core.events import Authenticated, Event
from smtpgate.core.history.key_use import use_of
from smtpgate.core.watch.batch import Batch
from smtpgate.directory.keys import KeyUse
from smtpgate.gate.frames import Report, encode
from smtpgate.metrics import WorkerMetrics
from smtpgate.workers.channel import Channel

_WAIT_S: Final = 0.05
_MAX_WAITING_OCTETS: Final = 8 * 1024 * 1024
_MAX_USES: Final = 10_000


class Reporter:
    """Collects what a worker reports; the writer of its log, and a sink of its events."""

    def __init__(
        self, channel: Channel, metrics: WorkerMetrics, *, watches_keys: bool = False
    ) -> None:
        self.lost = 0
        self.problem: str | None = None
        self._channel = channel
        self._metrics = metrics
        self._lines: list[bytes] = []
        self._octets = 0
        self._uses: dict[str, KeyUse] = {}
        self._watched = Batch(_MAX_USES) if watches_keys else None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: bytes) -> None:
        """Report a line of the log soon; it is lost while the parent takes nothing."""
        if self._octets + self._channel.unsent_octets > _MAX_WAITING_OCTETS:
            self.lost += 1
            return
        self._lines.append(line)
        self._octets += len(line)
        if self._timer is None:
            self._start_timer()

    def publish(self, event: Event) -> None:
        """Report soon what the metrics have noted, and the use of a key."""
        if isinstance(event, Authenticated):
            key_id = event.client.access_key_id
            if key_id in self._uses or len(self._uses) < _MAX_USES:
                self._uses[key_id] = KeyUse(key_id, event.at, event.client.address)
        elif self._watched is not None and (use := use_of(event)) is not None:
            self._watched.add(use)
        if self._timer is None:
            self._start_timer()

    def report(self) -> None:
        """Report at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counts, submissions = self._metrics.take()
        watched = [] if self._watched is None else self._watched.take()
        report = Report(self._lines, counts, submissions, list(self._uses.values()), watched)
        self._lines, self._octets, self._uses = [], 0, {}
        if report.lines or report.counts or report.submissions or report.uses or watched:
            self._channel.send(encode(report))

    async def flush(self) -> None:
        """Report at once."""
        self.report()

    async def close(self) -> None:
        """Report at once."""
        self.report()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_WAIT_S, self.report)
