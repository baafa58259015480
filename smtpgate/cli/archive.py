"""The archive: where a command opens the journal for questions, and closes it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from smtpgate.cli.terminal import fail, loaded_config
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.gate.opening import OpeningError, journal_store
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.store import JournalStore
from smtpgate.journal.terms import TermKeyError
from smtpgate.ports import Clock, JournalUnavailableError
from smtpgate.sql.upgrade import SchemaError

T = TypeVar("T")

# What is told in its own words; anything else is a mistake of the program.
TROUBLES: Final = (
    JournalUnavailableError,
    OpeningError,
    OSError,
    SchemaError,
    TermKeyError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An open journal."""

    config: Config
    store: JournalStore
    reader: JournalReader
    clock: Clock

    def now(self) -> datetime:
        """This moment."""
        return self.clock.now()


@asynccontextmanager
async def opened_archive(config: Config) -> AsyncIterator[Archive]:
    """The journal of a configuration; nothing is made, nothing is changed.

    Raises any of the TROUBLES.
    """
    if not config.journal.enabled:
        raise OpeningError("journal.enabled is false: there is no journal to look into")
    store = journal_store(config)
    path = store.database.path
    try:
        if path is not None and not path.exists():
            raise SchemaError(f"there is no {path} yet; the first start makes it")
        key = await store.look()
        yield Archive(
            config=config,
            store=store,
            reader=JournalReader(store, key),
            clock=SystemClock(),
        )
    finally:
        await store.close()


def run(config_file: Path, operation: Callable[[Archive], Awaitable[T]]) -> T:
    """Do a operation in the journal of that configuration.

    Exits with 1 when something is in the way.
    """
    config = loaded_config(config_file)

    async def done() -> T:
        async with opened_archive(config) as archive:
            return await operation(archive)

    try:
        return asyncio.run(done())
    except BrokenPipeError:
        raise  # whoever reads what is printed has enough: that is no trouble of the journal
    except TROUBLES as error:
        raise fail(error) from None
