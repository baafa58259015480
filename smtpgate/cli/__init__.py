"""The command line. Exit status: 0 fine, 1 refused or failed, 2 wrong usage."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

import smtpgate
from smtpgate.app import check, run
from smtpgate.cli.policy import policy_app
from smtpgate.cli.simulate import simulate
from smtpgate.cli.terminal import fail, loaded_config, output
from smtpgate.config import ConfigError
from smtpgate.demo import run_demo
from smtpgate.directory.declared.documents import DirectoryError
from smtpgate.initialize import InitError, initialize
from smtpgate.opening import OpeningError

__all__ = ["app", "main"]

app = typer.Typer(
    name="smtpgate",
    help="SMTP submission gateway with sending authorization for any upstream mail server.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ConfigFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="The configuration file (TOML).", show_default=False),
]


def _version(wanted: bool) -> None:
    if wanted:
        output.print(f"smtpgate {smtpgate.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", metavar="FILE", help="The configuration file (TOML)."),
    ] = Path("/etc/smtpgate/smtpgate.toml"),
) -> None:
    """Run the gate until SIGTERM, then drain. SIGHUP reads the directory again."""
    loaded = loaded_config(config)
    try:
        run(loaded)
    except (DirectoryError, OpeningError, OSError) as error:
        raise fail(error) from None


@app.command("check-config")
def check_config(file: ConfigFile) -> None:
    """Read the configuration and the directory it names; say what is wrong, start nothing."""
    loaded = loaded_config(file)
    try:
        summary = asyncio.run(check(loaded))
    except (DirectoryError, OpeningError, OSError) as error:
        raise fail(error) from None
    output.print(f"{file}: fine")
    for line in summary:
        output.print(f"  {line}")


@app.command()
def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Where the configuration is, or shall be."),
    ],
    hostname: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The gate's name, for a configuration made now."),
    ] = None,
) -> None:
    """Make a configuration ready to run: the sample where there is none, and missing secrets.

    Makes what the configuration names and does not exist: a self-signed certificate, access key
    secrets, DKIM keys. Never overwrites anything; prints SMTP passwords and DNS records once.
    """
    try:
        report = initialize(folder, hostname=hostname)
    except (InitError, ConfigError, DirectoryError, OSError) as error:
        raise fail(error) from None
    output.print(str(report))


@app.command()
def demo() -> None:
    """Show the main job on loopback, with a real gate: what passes and what is refused."""
    raise typer.Exit(0 if run_demo(sys.stdout.write) else 1)


# Commands are listed in the order of their registration.
app.command()(simulate)
app.add_typer(policy_app, name="policy")


def main() -> None:
    """The entry point of the ``smtpgate`` command."""
    app()
