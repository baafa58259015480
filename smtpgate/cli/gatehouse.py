"""The configured directory, opened for a question instead of for mail."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from smtpgate.cli.terminal import fail, loaded_config
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.account import Principal
from smtpgate.core.trial import Trial, TrialResult
from smtpgate.directory.declared.documents import DirectoryError
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.store import DirectoryStore
from smtpgate.opening import (
    OpeningError,
    apply_declared,
    directory_store,
    live_directory,
    open_directory,
)
from smtpgate.ports import Clock, DirectoryUnavailableError

__all__ = ["Gatehouse"]


@dataclass(frozen=True, slots=True)
class Gatehouse:
    """A configured directory, and what else decides about a trial."""

    directory: LiveDirectory
    principals: Sequence[Principal]
    region: str
    infer_arn: bool

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> "AsyncIterator[Gatehouse]":
        """Read the configuration and its directory. Exits with 1 when they cannot be used.

        Before the first start there is no database; then the documents of ``directory.apply``
        are looked at in one that is thrown away.
        """
        config, clock, warnings = loaded_config(path), SystemClock(), list[str]()
        with tempfile.TemporaryDirectory(prefix="smtpgate-") as folder:
            try:
                store = await _store(config, clock, warnings, Path(folder))
            except (DirectoryError, DirectoryUnavailableError, OpeningError, OSError) as error:
                raise fail(error) from None
            try:
                directory = live_directory(config, store, clock)
                async with store.reading() as connection:
                    principals = await directory.loader.principals(connection)
                yield cls(
                    directory, principals, config.gate.region, config.authorization.infer_arn
                )
            except DirectoryUnavailableError as error:
                raise fail(error) from None
            finally:
                await store.close()

    def principal(self, account_id: str, user: str | None) -> Principal | None:
        """The user of an account by name or ARN, or the account's root without either."""
        return next(
            (
                principal
                for principal in self.principals
                if principal.account.id == account_id
                and user in (principal.user_name, principal.arn)
            ),
            None,
        )

    async def run(self, trial: Trial) -> TrialResult:
        """What the gate would decide."""
        known = {name: await self.directory.identities(name) for name in trial.names()}
        return trial.run(known, region=self.region, infer_arn=self.infer_arn)


async def _store(
    config: Config, clock: Clock, warnings: list[str], folder: Path
) -> DirectoryStore:
    store = directory_store(config, clock, warnings)
    path = store.database.path
    if path is None or path.exists():
        return store
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
    """The same configuration with its databases in another folder."""
    gate = config.gate.model_copy(update={"state_dir": folder})
    return config.model_copy(update={"gate": gate})
