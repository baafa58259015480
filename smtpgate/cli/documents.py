"""``smtpgate apply`` and ``smtpgate export``: the directory as documents."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer
from rich.text import Text

from smtpgate.admin.session import Session
from smtpgate.cli.completion import account_ids
from smtpgate.cli.listing import print_json, shown, to_json
from smtpgate.cli.session import run
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
from smtpgate.config.toml import reason
from smtpgate.core.naming import account_id
from smtpgate.directory.documents.apply import apply as apply_documents
from smtpgate.directory.documents.apply import planned
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.export import export as export_directory
from smtpgate.directory.documents.fields import Fields
from smtpgate.directory.documents.plan import Columns, Drift, Plan, Sign, Step
from smtpgate.directory.documents.read import read_desired

_STYLES: Final = {"+": "green", "~": "yellow", "-": "red", "!": "magenta"}
# How a step begins that makes a key useless to whoever has it.
_REPLACED: Final = ("another secret", "another private key")
_DIGITS: Final = 12
_WORDS: Final[Mapping[Sign, str]] = {"+": "made", "~": "changed", "-": "deleted"}


_Documents: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="FILE|DIR", help="A document, or a folder of documents.", show_default=False
    ),
]
_DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done.")
]
_Prune: TypeAlias = Annotated[
    bool, typer.Option("--prune", help="Delete what documents named before and no more.")
]
_Force: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Undo what was changed by command; with --prune delete all that is not named.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Proposal:
    desired: Desired
    plan: Plan

    @property
    def summary(self) -> str:
        """How many steps of each kind there are, and how much stays otherwise."""
        counts = Counter(step.sign for step in self.plan.steps)
        told = ", ".join(f"{counts[sign]} {word}" for sign, word in _WORDS.items())
        return f"{told}, {len(self.plan.drift)} kept" if self.plan.drift else told

    @property
    def dangers(self) -> list[str]:
        """What asks for a yes."""
        gone = sum(step.sign == "-" for step in self.plan.steps)
        replaced = sum(step.how.startswith(_REPLACED) for step in self.plan.steps)
        return [
            *([f"deletes {gone} of the directory"] if gone else ()),
            *([f"replaces {replaced} secrets and private keys"] if replaced else ()),
        ]


async def _proposed(session: Session, path: Path, *, prune: bool, force: bool) -> _Proposal:
    desired = await asyncio.to_thread(
        read_desired, path, region=session.region, partition=session.partition
    )
    warn(desired.warnings)
    plan = await planned(session.store, desired, prune, force=force)
    return _Proposal(desired, plan)


def apply(
    path: _Documents,
    dry_run: _DryRun = False,
    prune: _Prune = False,
    force: _Force = False,
    config: ConfigFile = DEFAULT_CONFIG,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Apply what documents changed since they were last applied, in one change.

    What was changed by command meanwhile stays, and is listed: a line with ! for each
    difference. --force makes the directory what the documents say. Deleting, and replacing
    secrets or private keys, needs a yes.
    """
    proposal = run(
        config,
        lambda session: _proposed(session, path, prune=prune, force=force),
        changes=not dry_run,
    )
    _tell(proposal.plan, as_json=json, columns=dry_run)
    if dry_run:
        errors.print(f"to be: {proposal.summary}" if _is_told(proposal) else "nothing to do")
        return
    if proposal.dangers:
        confirmed(f"this {' and '.join(proposal.dangers)}", yes=yes)

    async def operation(session: Session) -> None:
        async with session.changing() as change:
            await apply_documents(
                change,
                session.store,
                proposal.desired,
                prune=prune,
                force=force,
                expected=proposal.plan,
            )

    # Without steps too: what the documents say now is kept for the next time.
    run(config, operation, changes=True)
    errors.print(proposal.summary if _is_told(proposal) else "nothing to do")


def _is_told(proposal: _Proposal) -> bool:
    return bool(proposal.plan.steps or proposal.plan.drift)


def _tell(plan: Plan, *, as_json: bool, columns: bool) -> None:
    lines: list[tuple[Sign | Literal["!"], Step | Drift]] = [
        *((step.sign, step) for step in plan.steps),
        *(("!", one) for one in plan.drift),
    ]
    if as_json:
        print_json(
            [
                {"sign": sign, "what": line.what, "how": line.how, **asdict(line.columns)}
                for sign, line in lines
            ]
        )
        return
    for sign, line in lines:
        text = str(line) if isinstance(line, Step) else f"! {line}"
        output.print(Text(shown(text), _STYLES[sign]))
        if columns and sign in "~!":
            _tell_columns(line.columns)


def _tell_columns(columns: Columns) -> None:
    """What differs between the three, a line each."""
    found = asdict(columns)
    names = dict.fromkeys(name for said in found.values() for name in said or ())
    differing = [
        name
        for name in names
        if len({repr((said or {}).get(name)) for said in found.values()}) > 1
    ]
    for title, said in found.items():
        told = "not there" if said is None else _fields(said, differing)
        output.print(Text(shown(f"    {title.replace('_', ' ')}: {told}")))


def _fields(said: Fields, names: Sequence[str]) -> str:
    """Fields in words; of a policy's document, what tells it from others."""
    found = {name: said[name] for name in names if name in said}
    if "document" in found:
        digest = hashlib.sha256(str(found["document"]).encode()).hexdigest()
        found["document"] = f"sha256:{digest[:_DIGITS]}"
    told = [f"{name} {to_json(value, indent=None)}" for name, value in found.items()]
    return ", ".join(told) or "-"


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

    async def operation(session: Session) -> list[Path]:
        try:
            return await export_directory(session.store, folder, accounts=account)
        except OSError as error:
            raise fail(f"{error.filename or folder}: {reason(error)}") from None

    for document in run(config, operation):
        output.print(str(document))
