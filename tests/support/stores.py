"""The store of one host over files in a folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from smtpgate.config.sections import JournalConfig
from smtpgate.journal.groups import FileGroups
from smtpgate.journal.live import LiveJournal
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ports import Clock
from smtpgate.store.host import HostStore
from smtpgate.store.owner import StoreOwner, new_thread
from tests.support.clock import MovableClock
from tests.support.journal import Received, journal_in, store_of


class OpenedStore(HostStore):
    """A store with its parts, and what it reported."""

    ledger: SqliteLedger
    journal: LiveJournal
    problems: list[str]
    received: Received


@asynccontextmanager
async def open_host_store(
    folder: Path,
    *,
    clock: Clock | None = None,
    busy_s: float = 5,
    timeout_s: float = 5,
    ledger_folder: Path | None = None,
) -> AsyncIterator[OpenedStore]:
    """A store whose files are in the folder, with its journal started.

    ``busy_s`` is how long the ledger waits for other processes.
    """
    clock, received = clock or MovableClock(), Received()
    problems: list[str] = []
    files, path = (
        store_of(journal_in(folder), folder),
        (ledger_folder or folder) / "ledger.sqlite",
    )
    thread, work = new_thread(path, files.database, timeout_s=busy_s, lease_s=900, clock=clock)
    ledger = SqliteLedger(path, timeout_s=timeout_s, ask=thread.ask)
    journal = LiveJournal(
        files,
        JournalConfig(),
        clock=clock,
        events=received,
        on_error=received.errors.append,
        groups=FileGroups(work.journal, thread.ask, files.database.name),
    )
    owner = StoreOwner(
        thread,
        work,
        journal,
        timeout_s=timeout_s,
        on_ledger_problem=problems.append,
        on_error=received.errors.append,
    )
    store = OpenedStore(owner, ledger, journal)
    store.ledger, store.journal = ledger, journal
    store.problems, store.received = problems, received
    await journal.start()
    try:
        yield store
    finally:
        await journal.stop()
        await asyncio.to_thread(thread.stop, 10)
