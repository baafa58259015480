"""The ledger and the journal of a process, opened and closed together."""

from typing import Final

from smtpgate.config import Config
from smtpgate.gate.errors import OpenError
from smtpgate.gate.journal import new_journal, start_journal
from smtpgate.gate.ledger import new_ledger
from smtpgate.gate.sinks import OnError
from smtpgate.http import Readiness
from smtpgate.ledger.watch import LedgerWatch
from smtpgate.metrics.scraped import Scrape
from smtpgate.ports import Clock, EventSink
from smtpgate.store.separate import SeparateStores
from smtpgate.tasks import TaskOwner

_LAST_WORK_S: Final = 5


class Stores:
    """The ledger, watched, and the journal; ``of_messages`` is both for the path."""

    def __init__(
        self, config: Config, clock: Clock, events: EventSink, on_error: OnError
    ) -> None:
        """Make them; nothing is opened yet. Raises OpenError."""
        self._config = config
        self._for_life = TaskOwner()
        self.journal = new_journal(config, clock, events, on_error)
        self.ledger = new_ledger(config)
        self.ledger_watch = LedgerWatch(
            self.ledger, clock=clock, events=events, on_error=on_error
        )
        self.of_messages = SeparateStores(self.ledger_watch, self.journal, on_error=on_error)

    def show(self, metrics: Scrape, readiness: Readiness) -> None:
        """Show their state at ``/metrics`` and ``/readyz``."""
        metrics.watch(self.journal.readings)
        metrics.watch(self.ledger_watch.readings)
        readiness.add("journal", self.journal.check)
        readiness.add("ledger", self._check_ledger)

    def _check_ledger(self) -> tuple[bool, str]:
        """Not ready while the ledger cannot count, unless mail passes uncounted then."""
        counts, text = self.ledger_watch.state()
        return counts or self._config.limits.on_store_failure == "allow", text

    async def start(self) -> None:
        """Open both, and begin to watch the ledger. Raises OpenError."""
        await self.ledger_watch.look()
        if self.ledger_watch.is_unfit:
            raise OpenError(f"ledger: {self.ledger_watch.problem}")
        await start_journal(self.journal)
        _ = self._for_life.start(self.ledger_watch.run(), name="ledger watch")

    async def stop(self) -> None:
        """Write what waits, and close both."""
        self.ledger_watch.stop()
        await self._for_life.drain(_LAST_WORK_S)
        try:
            await self.ledger.close()
        finally:
            await self.journal.stop()
