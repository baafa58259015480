"""The ledger and the journal of a process, opened and closed together.

Where both are SQLite files one thread has them; otherwise each has its own means.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from smtpgate.config import Config
from smtpgate.gate.errors import OpenError
from smtpgate.gate.journal import JOURNAL_TROUBLES, journal_error, new_journal_store
from smtpgate.gate.ledger import make_folder, new_ledger
from smtpgate.gate.sinks import OnError
from smtpgate.http import Readiness
from smtpgate.journal.absent import NoJournal
from smtpgate.journal.groups import FileGroups
from smtpgate.journal.live import LiveJournal
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ledger.watch import LedgerWatch
from smtpgate.metrics.scraped import Scrape
from smtpgate.ports import Clock, EventSink, Ledger, Store
from smtpgate.sql.thread import BatchThread
from smtpgate.store.host import HostStore
from smtpgate.store.owner import StoreOwner, new_thread
from smtpgate.store.separate import SeparateStores
from smtpgate.store.work import Request
from smtpgate.tasks import TaskOwner

_LAST_WORK_S: Final = 5
_STOP_S: Final = 10.0


class Stores:
    """The ledger, watched, and the journal; ``of_messages`` is both for the path."""

    def __init__(
        self, config: Config, clock: Clock, events: EventSink, on_error: OnError
    ) -> None:
        """Make them; nothing is opened yet. Raises OpenError."""
        self._config = config
        self._clock = clock
        self._events = events
        self._on_error = on_error
        self._for_life = TaskOwner()
        self._thread: BatchThread[Request] | None = None
        self.owner: StoreOwner | None = None
        self.ledger: Ledger
        self.journal: LiveJournal | NoJournal
        self.of_messages: Store
        if has_one_owner(config):
            self._make_one_store()
        else:
            self.journal = self._new_journal()
            self.ledger = new_ledger(config)
            self.ledger_watch = self._watch(self.ledger)
            self.of_messages = SeparateStores(
                self.ledger_watch, self.journal, on_error=on_error
            )

    def _watch(self, ledger: Ledger) -> LedgerWatch:
        return LedgerWatch(
            ledger, clock=self._clock, events=self._events, on_error=self._on_error
        )

    def _new_journal(self) -> LiveJournal | NoJournal:
        if not self._config.journal.enabled:
            return NoJournal()
        return LiveJournal(
            new_journal_store(self._config),
            self._config.journal,
            clock=self._clock,
            events=self._events,
            on_error=self._on_error,
        )

    def _make_one_store(self) -> None:
        config, settings = self._config, self._config.ledger
        make_folder(config)
        files, path, timeout_s = (
            new_journal_store(config),
            config.ledger_path,
            settings.timeout_s,
        )
        self._thread, work = new_thread(
            path,
            files.database,
            timeout_s=timeout_s,
            lease_s=settings.lease_s,
            clock=self._clock,
        )
        ask = self._thread.ask
        ledger = SqliteLedger(path, timeout_s=timeout_s, ask=ask)
        journal = LiveJournal(
            files,
            config.journal,
            clock=self._clock,
            events=self._events,
            on_error=self._on_error,
            groups=FileGroups(work.journal, ask, files.database.name),
        )
        self.ledger, self.journal, self.ledger_watch = ledger, journal, self._watch(ledger)
        self.owner = StoreOwner(
            self._thread,
            work,
            journal,
            timeout_s=timeout_s,
            on_ledger_problem=self.ledger_watch.note,
            on_error=self._on_error,
        )
        self.of_messages = HostStore(self.owner, ledger, journal)

    def when_tasks_come(self, wake: Callable[[], object]) -> None:
        """Call that each time when tasks came into force."""
        if self.owner is not None:
            self.owner.on_tasks = wake
        elif isinstance(self.of_messages, SeparateStores):
            self.of_messages.on_tasks = wake

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
        try:
            await self.journal.start()
        except (*JOURNAL_TROUBLES, OSError) as error:
            raise journal_error(error) from None
        _ = self._for_life.start(self.ledger_watch.run(), name="ledger watch")

    async def stop(self) -> None:
        """Write the entries that wait, settle what is owed, and close both."""
        self.ledger_watch.stop()
        await self._for_life.drain(_LAST_WORK_S)
        try:
            await self.ledger.close()
        finally:
            await self._stop_journal()

    async def _stop_journal(self) -> None:
        try:
            await self.journal.stop()
        finally:
            if self._thread is not None:
                await asyncio.to_thread(self._thread.stop, _STOP_S)


def has_one_owner(config: Config) -> bool:
    """True if ledger and journal are files of this host, which one process should own."""
    is_sqlite = config.journal_url.startswith("sqlite:")
    return config.ledger.kind == "sqlite" and config.journal.enabled and is_sqlite
