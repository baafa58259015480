"""The configured directory, opened for a question instead of for mail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from smtpgate.cli.session import SESSION_ERRORS
from smtpgate.cli.terminal import fail, loaded_config, warn
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.whatif.trial import Trial, TrialResult
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.principals import Principals
from smtpgate.gate.live import new_live_directory
from smtpgate.gate.preview import open_preview


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
        try:
            async with open_preview(config, clock, warnings) as store:
                warn(warnings)
                directory = new_live_directory(config, store, clock)
                yield cls(config, directory, Principals(store, directory.loader))
        except SESSION_ERRORS as error:
            raise fail(error) from None

    async def run(self, trial: Trial) -> TrialResult:
        """What the gate would decide."""
        known = {name: await self.directory.identities(name) for name in trial.names()}
        return trial.run(known, region=self.region, infer_arn=self.infer_arn)
