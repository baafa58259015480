"""The configured directory, opened for a question instead of for mail."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smtpgate.app import load_directory
from smtpgate.cli.terminal import fail, loaded_config
from smtpgate.core.account import Principal
from smtpgate.core.trial import Trial, TrialResult
from smtpgate.directory.files import DirectoryError, FileDirectory

__all__ = ["Gatehouse"]


@dataclass(frozen=True, slots=True)
class Gatehouse:
    """A configured directory, and what else decides about a trial."""

    directory: FileDirectory
    principals: Sequence[Principal]
    region: str
    infer_arn: bool

    @classmethod
    async def load(cls, path: Path) -> "Gatehouse":
        """Read the configuration and its directory. Exits with 1 when they cannot be used."""
        config = loaded_config(path)
        try:
            directory = load_directory(config)
        except (DirectoryError, OSError) as error:
            raise fail(error) from None
        return cls(
            directory,
            await directory.principals(),
            config.gate.region,
            config.authorization.infer_arn,
        )

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
