"""The directory as the next start would find it, for commands that only ask."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from smtpgate.admin.preview import PreviewSession
from smtpgate.admin.session import Operator
from smtpgate.config import Config
from smtpgate.core.account import Principal
from smtpgate.directory.principals import DirectoryPrincipals
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.directory import is_missing, new_directory, open_directory
from smtpgate.gate.documents import apply_documents
from smtpgate.gate.live import new_live_directory
from smtpgate.ports import Clock
from smtpgate.sql.database import sqlite_url


@asynccontextmanager
async def open_preview(
    config: Config, clock: Clock, warnings: list[str], caller: Operator | Principal
) -> AsyncIterator[PreviewSession]:
    """The directory as the next start would find it; nothing of it is changed.

    Before the first start there is no database. Then the documents of ``directory.apply`` are
    applied to a temporary one. Raises OpenError or DirectoryError.
    """
    async with _opened(config, clock, warnings) as store:
        directory = new_live_directory(config, store, clock)
        yield PreviewSession(
            config=config,
            clock=clock,
            caller=caller,
            directory=directory,
            principals=DirectoryPrincipals(store, directory.loader),
        )


@asynccontextmanager
async def _opened(
    config: Config, clock: Clock, warnings: list[str]
) -> AsyncIterator[DirectoryStore]:
    if config.directory.apply is None or not _is_before_first_start(config, clock):
        async with open_directory(config, clock, warnings, use="read") as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="smtpgate-") as folder:
        config = _in_folder(config, Path(folder))
        async with open_directory(config, clock, warnings) as store:
            _ = await apply_documents(config, store, warnings)
            yield store


def _is_before_first_start(config: Config, clock: Clock) -> bool:
    return is_missing(new_directory(config, clock, []))


def _in_folder(config: Config, folder: Path) -> Config:
    """The same configuration with its directory in that folder."""
    url = sqlite_url(folder / "directory.sqlite")
    directory = config.directory.model_copy(update={"url": url, "url_file": None})
    return config.model_copy(update={"directory": directory})
