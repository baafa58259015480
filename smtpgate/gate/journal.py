"""The journal, opened for questions; commands do not import what writes it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from smtpgate.admin.journal import JournalSession
from smtpgate.admin.session import Operator
from smtpgate.config import Config
from smtpgate.core.account import Principal
from smtpgate.gate.databases import new_database
from smtpgate.gate.errors import OpenError
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.store import JournalStore
from smtpgate.journal.terms import TermKey, TermKeyError
from smtpgate.outbox.kept import KeptTasks
from smtpgate.ports import Clock, JournalUnavailableError, Outbox
from smtpgate.sql.upgrade import SchemaError

TERM_KEY: Final = "journal.key"
JOURNAL_TROUBLES: Final = (JournalUnavailableError, SchemaError, TermKeyError)


def new_journal_store(config: Config) -> JournalStore:
    """The configured journal, not opened yet. Raises OpenError."""
    url, unavailable = config.journal_url, JournalUnavailableError
    database = new_database("journal", config.journal, url, unavailable)
    return JournalStore(database=database, key_file=config.gate.state_dir / TERM_KEY)


@asynccontextmanager
async def open_journal_session(
    config: Config, clock: Clock, caller: Operator | Principal
) -> AsyncIterator[JournalSession]:
    """The journal, opened for questions; nothing of it is made or changed.

    Raises OpenError or OSError.
    """
    if not config.journal.enabled:
        raise OpenError("journal.enabled is false: there is no journal to look into")
    async with open_journal_store(config) as store:
        reader = JournalReader(store, await _look(store))
        yield JournalSession(config=config, clock=clock, caller=caller, reader=reader)


@asynccontextmanager
async def open_journal_store(config: Config) -> AsyncIterator[JournalStore]:
    """The configured journal, of whose tables nothing is asked yet. Raises OpenError."""
    store = new_journal_store(config)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_outbox(config: Config) -> AsyncIterator[Outbox | None]:
    """The outbox of a gate, for what a command adds to it; ``None`` if there is none yet.

    Raises OpenError.
    """
    if not config.has_outbox:
        yield None
        return
    async with open_journal_store(config) as store:
        path = store.database.path
        is_new = path is not None and not path.exists()
        yield None if is_new else KeptTasks(store)


async def _look(store: JournalStore) -> TermKey:
    path = store.database.path
    try:
        if path is not None and not path.exists():
            raise SchemaError(f"there is no {path} yet; the first start makes it")
        return await store.look()
    except JOURNAL_TROUBLES as error:
        raise OpenError(f"journal: {error}") from None


class JournalQuestions:
    """The journal for the questions of a server; it is opened by the first one."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._store: JournalStore | None = None
        self._reader: JournalReader | None = None

    async def reader(self) -> JournalReader | None:
        """The journal's reader, or ``None`` if the gate has no journal.

        Raises JournalUnavailableError.
        """
        if self._reader is None and self._config.journal.enabled:
            if self._store is None:
                self._store = new_journal_store(self._config)
            try:
                self._reader = JournalReader(self._store, await self._store.look())
            except (*JOURNAL_TROUBLES, OSError) as error:
                raise JournalUnavailableError(str(error)) from error
        return self._reader

    async def close(self) -> None:
        """Close what was opened."""
        if self._store is not None:
            await self._store.close()


def journal_error(error: Exception) -> OpenError:
    """The error of a journal that cannot be opened, with the cure where one is known."""
    cure = ""
    if "damaged" in str(error):
        cure = "; or move it away with its -wal and -shm, and the gate makes a new one"
    return OpenError(f"journal: {error}{cure}")
