"""``smtpgate policy``: tools for owners of identities; nothing is sent, no gate is needed."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from smtpgate.cli.lint import as_json, lint_files
from smtpgate.core.arn import ArnError, IdentityArn

__all__ = ["policy_app"]

policy_app: Final = typer.Typer(
    name="policy",
    help="Check, write and question policies, without sending anything.",
    no_args_is_help=True,
)


class PolicyKind(StrEnum):
    """The two kinds of policies, as an option's values."""

    IDENTITY = "identity"
    USER = "user"


def _identity_arn(text: str | None) -> str | None:
    try:
        return None if text is None else str(IdentityArn.parse(text))
    except ArnError as error:
        raise typer.BadParameter(str(error)) from None


@policy_app.command()
def lint(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Policy documents; - is standard input."),
    ],
    kind: Annotated[
        PolicyKind | None,
        typer.Option(
            help="What they are; without it a policy that names principals is an identity's.",
            show_default=False,
        ),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="ARN",
            callback=_identity_arn,
            help="The identity that they shall be attached to: check that they can be.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Find what is wrong with policies, and what is legal but unwise.

    Prints FILE: CODE severity: message for each finding, and below it what to write instead.
    Exit status 1 if any finding is an error.
    """
    remarks = []
    for remark in lint_files(files, kind=kind.value if kind else None, identity_arn=identity):
        remarks.append(remark)
        if not json:
            typer.echo(str(remark))
    if json:
        typer.echo(as_json(remarks))
    if any(remark.is_error for remark in remarks):
        raise typer.Exit(1)
