"""The configured directory, opened for a question instead of for mail."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from smtpgate.cli.session import SESSION_ERRORS, is_missing, must_exist
from smtpgate.cli.terminal import fail, loaded_config, warn
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.whatif.trial import Trial, TrialResult
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.principals import Principals
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.opening import (
    apply_declared,
    directory_store,
    live_directory,
    open_directory,
)
from smtpgate.ports import Clock, DirectoryUnavailableError
from smtpgate.sql.database import sqlite_url


@dataclass(frozen=True, slots=True)
class Gatehouse:
    """A configured directory, and what else decides about a trial."""

    config: Config
    directory: LiveDirectory
    principals: Principals

    @property
    def region(self) -> str:
        """The region whose identities are meant."""
        return self.config.gate.region

    @property
    def infer_arn(self) -> bool:
        """Whether a message that names no identity may use another account's."""
        return self.config.authorization.infer_arn

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> "AsyncIterator[Gatehouse]":
        """Read the configuration and open its directory. Exits with 1 when it cannot be used.

        Before the first start there is no database; then the documents of ``directory.apply``
        are looked at in one that is thrown away.
        """
        config, clock, warnings = loaded_config(path), SystemClock(), list[str]()
        with tempfile.TemporaryDirectory(prefix="smtpgate-") as folder:
            try:
                store = await _store(config, clock, warnings, Path(folder))
            except SESSION_ERRORS as error:
                raise fail(error) from None
            warn(warnings)
            directory = live_directory(config, store, clock)
            try:
                yield cls(config, directory, Principals(store, directory.loader))
            except DirectoryUnavailableError as error:
                raise fail(error) from None
            finally:
                await store.close()

    async def run(self, trial: Trial) -> TrialResult:
        """What the gate would decide."""
        known = {name: await self.directory.identities(name) for name in trial.names()}
        return trial.run(known, region=self.region, infer_arn=self.infer_arn)


async def _store(
    config: Config, clock: Clock, warnings: list[str], folder: Path
) -> DirectoryStore:
    store = directory_store(config, clock, warnings)
    try:
        if config.directory.apply is None or not is_missing(store):
            must_exist(store)
            _ = await store.look()
            return store
    except BaseException:
        await store.close()
        raise
    await store.close()
    config = _in_folder(config, folder)
    store = await open_directory(config, clock, warnings)
    try:
        _ = await apply_declared(config, store, warnings)
    except BaseException:
        await store.close()
        raise
    return store


def _in_folder(config: Config, folder: Path) -> Config:
    """The same configuration with its directory in that folder."""
    url = sqlite_url(folder / "directory.sqlite")
    directory = config.directory.model_copy(update={"url": url, "url_file": None})
    return config.model_copy(update={"directory": directory})
