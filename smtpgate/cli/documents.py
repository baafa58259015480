"""``smtpgate apply`` and ``smtpgate export``: the directory as documents."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from smtpgate.cli.completion import account_ids
from smtpgate.cli.listing import print_json, shown
from smtpgate.cli.notation import account_id
from smtpgate.cli.office import Office, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Yes,
    confirmed,
    errors,
    fail,
    output,
    parsed_by,
    warn,
)
from smtpgate.directory.declared.apply import apply as apply_declared
from smtpgate.directory.declared.apply import planned
from smtpgate.directory.declared.content import Declared
from smtpgate.directory.declared.export import export as export_directory
from smtpgate.directory.declared.plan import Plan, Sign
from smtpgate.directory.declared.read import read_declared
from smtpgate.tomlfile import reason

__all__ = ["apply", "export"]

_STYLES: Final = {"+": "green", "~": "yellow", "-": "red"}
_WORDS: Final[Mapping[Sign, str]] = {"+": "made", "~": "changed", "-": "deleted"}


@dataclass(frozen=True, slots=True)
class _Proposal:
    declared: Declared
    plan: Plan

    @property
    def summary(self) -> str:
        """How many steps of each kind there are."""
        counts = Counter(step.sign for step in self.plan.steps)
        return ", ".join(f"{counts[sign]} {word}" for sign, word in _WORDS.items())


async def _proposed(office: Office, path: Path, *, prune: bool) -> _Proposal:
    declared = await asyncio.to_thread(
        read_declared, path, region=office.region, partition=office.partition
    )
    warn(declared.warnings)
    return _Proposal(declared, await planned(office.store, declared, prune))


def apply(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR", help="A document, or a folder of documents.", show_default=False
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what no document names.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Make the directory what documents say, in one change; deleting needs a yes."""
    proposal = run(
        config, lambda office: _proposed(office, path, prune=prune), changes=not dry_run
    )
    _tell(proposal.plan, as_json=json)
    if dry_run or not proposal.plan:
        errors.print("nothing to do" if not proposal.plan else f"to be: {proposal.summary}")
        return
    gone = sum(step.sign == "-" for step in proposal.plan.steps)
    if gone:
        confirmed(f"this deletes {gone} of the directory", yes=yes)

    async def deed(office: Office) -> None:
        async with office.changing() as change:
            await apply_declared(
                change,
                office.store,
                proposal.declared,
                prune=prune,
                expected=proposal.plan,
            )

    run(config, deed, changes=True)
    errors.print(proposal.summary)


def _tell(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json(
            [{"sign": step.sign, "what": step.what, "how": step.how} for step in plan.steps]
        )
        return
    for step in plan.steps:
        output.print(Text(shown(str(step)), _STYLES[step.sign]))


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")
    ],
    account: Annotated[
        list[str] | None,
        typer.Option(
            "--account",
            "-a",
            metavar="ACCOUNT",
            help="Only this account; may be repeated.",
            parser=parsed_by(account_id),
            autocompletion=account_ids,
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Write the directory as documents, without secrets, for `smtpgate apply'."""

    async def deed(office: Office) -> list[Path]:
        try:
            return await export_directory(office.store, folder, accounts=account)
        except OSError as error:
            raise fail(f"{error.filename or folder}: {reason(error)}") from None

    for document in run(config, deed):
        output.print(str(document))
