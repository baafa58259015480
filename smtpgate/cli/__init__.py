"""The command line. Exit status: 0 fine, 1 refused or failed, 2 wrong usage."""

import gc
import os
from typing import Annotated

import typer

import smtpgate
from smtpgate.cli.commands import Commands

__all__ = ["app", "main"]

app = typer.Typer(
    name="smtpgate",
    cls=Commands,
    help="SMTP submission gateway with sending authorization for any upstream mail server.",
    epilog="To list the guides and references, run `smtpgate help'.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smtpgate {smtpgate.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of the ``smtpgate`` command."""
    # Imports make objects that stay: to collect garbage among them costs a fifth of a start.
    gc.disable()
    # No plugin of Pydantic's is used: not to look for one in all that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    app()
