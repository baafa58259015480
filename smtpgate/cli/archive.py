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
from smtpgate.gate.errors import OpenError
from smtpgate.gate.journal import open_journal_reader
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.store import JournalStore
from smtpgate.journal.terms import TermKeyError
from smtpgate.ports import Clock, JournalUnavailableError
from smtpgate.sql.upgrade import SchemaError

T = TypeVar("T")

# What is told in its own words; anything else is a mistake of the program.
TROUBLES: Final = (
    JournalUnavailableError,
    OpenError,
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
    async with open_journal_reader(config) as reader:
        yield Archive(config=config, store=reader.store, reader=reader, clock=SystemClock())


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
