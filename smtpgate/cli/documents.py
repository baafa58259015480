"""``smtpgate apply`` and ``smtpgate export``: the directory as documents."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer
from rich.text import Text

from smtpgate.admin import documents
from smtpgate.admin.documents import Line, Sign
from smtpgate.admin.session import Session
from smtpgate.cli.completion import account_ids
from smtpgate.cli.listing import print_json, shown, to_json
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Yes,
    argument,
    confirmed,
    errors,
    fail,
    option,
    output,
    warn,
)
from smtpgate.config.toml import reason
from smtpgate.core.naming import account_id

_STYLES: Final = {"+": "green", "~": "yellow", "-": "red", "!": "magenta"}
_DIGITS: Final = 12
_WORDS: Final[Mapping[Sign, str]] = {"+": "made", "~": "changed", "-": "deleted"}


_Documents: TypeAlias = Annotated[
    Path, argument(metavar="FILE|DIR", help="A document, or a folder of documents.")
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
    secrets or private keys, asks for confirmation.
    """
    proposal = run(
        config,
        lambda session: documents.propose(session, path, prune=prune, force=force),
        changes=not dry_run,
    )
    warn(proposal.warnings)
    _print(proposal.lines, as_json=json, columns=dry_run)
    summary = _summary(proposal.counts)
    if dry_run:
        errors.print(f"to be: {summary}" if summary else "nothing to do")
        return
    if proposal.dangers:
        confirmed(f"this {' and '.join(proposal.dangers)}", yes=yes)
    # Without steps too: what the documents say now is kept for the next time.
    change(config, lambda session: documents.apply(session, proposal))
    errors.print(summary or "nothing to do")


def _summary(counts: Mapping[Sign, int]) -> str:
    """The number of steps of each kind; empty if there are none."""
    if not any(counts.values()):
        return ""
    steps = ", ".join(f"{counts.get(sign, 0)} {word}" for sign, word in _WORDS.items())
    return f"{steps}, {counts['!']} kept" if counts["!"] else steps


def _print(lines: Sequence[Line], *, as_json: bool, columns: bool) -> None:
    if as_json:
        print_json(
            [
                {"sign": line.sign, "what": line.what, "how": line.how, **line.columns}
                for line in lines
            ]
        )
        return
    for line in lines:
        output.print(Text(shown(str(line)), _STYLES[line.sign]))
        if columns and line.sign in "~!":
            _print_columns(line.columns)


def _print_columns(columns: Mapping[str, Mapping[str, Any] | None]) -> None:
    """The fields that differ between the three, a line each."""
    names = dict.fromkeys(name for fields in columns.values() for name in fields or ())
    differing = [
        name
        for name in names
        if len({repr((fields or {}).get(name)) for fields in columns.values()}) > 1
    ]
    for title, fields in columns.items():
        words = "not there" if fields is None else _in_words(fields, differing)
        output.print(Text(shown(f"    {title.replace('_', ' ')}: {words}")))


def _in_words(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """Fields in words; of a policy's document, what tells it from others."""
    found = {name: fields[name] for name in names if name in fields}
    if "document" in found:
        digest = hashlib.sha256(str(found["document"]).encode()).hexdigest()
        found["document"] = f"sha256:{digest[:_DIGITS]}"
    words = [f"{name} {to_json(value, indent=None)}" for name, value in found.items()]
    return ", ".join(words) or "-"


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")
    ],
    account: Annotated[
        list[str] | None,
        option(
            "--account",
            "-a",
            metavar="ACCOUNT",
            help="Only this account; may be repeated.",
            parse=account_id,
            autocompletion=account_ids,
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Write the directory as documents, without secrets, for `smtpgate apply'."""

    async def operation(session: Session) -> Sequence[Path]:
        try:
            return await documents.export(session, folder, account)
        except OSError as error:
            raise fail(f"{error.filename or folder}: {reason(error)}") from None

    for document in run(config, operation):
        output.print(str(document))
