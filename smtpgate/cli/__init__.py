"""The command line. Exit status: 0 fine, 1 refused or failed, 2 wrong usage."""

import asyncio
import gc
import inspect
import re
import sys
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from typer.core import TyperArgument, TyperOption

import smtpgate
from smtpgate.cli.account import account_app
from smtpgate.cli.audit import audit_app
from smtpgate.cli.directory import back_up, directory_app
from smtpgate.cli.dkim import dkim_app
from smtpgate.cli.documents import apply, export
from smtpgate.cli.explain import explain
from smtpgate.cli.identity import identity_app
from smtpgate.cli.impact import impact
from smtpgate.cli.journal import journal_app
from smtpgate.cli.key import key_app
from smtpgate.cli.policy import policy_app
from smtpgate.cli.quota import quota_app
from smtpgate.cli.simulate import simulate
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    ConfigFile,
    example,
    fail,
    loaded_config,
    output,
    warn,
)
from smtpgate.cli.usage import usage
from smtpgate.cli.user import user_app
from smtpgate.config import ConfigError
from smtpgate.demo import run_demo
from smtpgate.directory.declared.documents import DirectoryError
from smtpgate.gate.app import run
from smtpgate.gate.check import check
from smtpgate.gate.errors import OpenError
from smtpgate.gate.initialize import InitError, Sample, initialize

__all__ = ["app", "main"]

app = typer.Typer(
    name="smtpgate",
    help="SMTP submission gateway with sending authorization for any upstream mail server.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_DIRECTORY: Final = "The directory"
_JOURNAL: Final = "What was sent, and why not"
_LINE_END: Final = re.compile(r"(?<!\n)\n(?!\n)")
_File: TypeAlias = Annotated[
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
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Run the gate until SIGTERM, then drain. SIGHUP loads certificates and documents again."""
    loaded = loaded_config(config)
    warn(loaded.warnings)
    try:
        run(loaded)
    except (DirectoryError, OpenError, OSError) as error:
        raise fail(error) from None


@app.command("check-config")
def check_config(file: _File) -> None:
    """Read the configuration, its directory and journal; say what is wrong, start nothing."""
    loaded = loaded_config(file)
    warn(loaded.warnings)
    try:
        summary = asyncio.run(check(loaded))
    except (DirectoryError, OpenError, OSError) as error:
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
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where its databases go, likewise."),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Your domain, for documents that are made now."),
    ] = None,
    join: Annotated[
        bool,
        typer.Option("--join", help="For a further host: make nothing that hosts share."),
    ] = False,
) -> None:
    """Make a configuration ready to run: the sample where there is none, and missing secrets.

    Makes what the configuration names and does not exist: a self-signed certificate, the master
    key, access key secrets, DKIM keys. Never overwrites anything; prints SMTP passwords and DNS
    records once.

    With --join it makes a configuration without documents and a certificate, and lists what to
    copy from a host that shares the directory with this one.
    """
    sample = Sample(hostname=hostname, state_dir=state_dir, domain=domain, join=join)
    try:
        report = initialize(folder, sample)
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
for family in (
    account_app,
    user_app,
    key_app,
    identity_app,
    dkim_app,
    quota_app,
    audit_app,
    directory_app,
):
    app.add_typer(family, rich_help_panel=_DIRECTORY)
app.command(rich_help_panel=_JOURNAL, epilog=example("explain 0100…-000000"))(explain)
app.add_typer(journal_app, rich_help_panel=_JOURNAL)
app.command(
    rich_help_panel=_JOURNAL,
    epilog=example(
        "impact --policy marketing.json "
        "--identity arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"
    ),
)(impact)
app.command(
    rich_help_panel=_JOURNAL,
    epilog=example("usage --account 888888888888 --since 30d --by day"),
)(usage)
app.command(
    rich_help_panel=_DIRECTORY, epilog=example("apply /etc/smtpgate/directory --dry-run")
)(apply)
app.command(
    rich_help_panel=_DIRECTORY,
    epilog=example("export /var/backups/smtpgate/documents --account 888888888888"),
)(export)
app.command(
    "backup",
    rich_help_panel=_DIRECTORY,
    epilog=example("backup /var/backups/smtpgate/directory.sqlite"),
)(back_up)


def _fill_paragraphs(family: typer.Typer) -> None:
    """Let the terminal wrap the help of all commands.

    Typer does so with the first paragraph; in the others it keeps the line ends of the source.
    """
    for command in family.registered_commands:
        command.help = _LINE_END.sub(" ", inspect.getdoc(command.callback) or "")
    for group in family.registered_groups:
        if group.typer_instance is not None:
            _fill_paragraphs(group.typer_instance)


def _name_no_types() -> None:
    """Keep ``<bool>`` and ``<IdentityRef>`` out of the help.

    Typer 0.29 names a type, of Python's, for options without a value and for all arguments.
    """
    named = getattr(TyperOption, "display_type_rich", None)
    if named is None:
        return

    def display_type_rich(option: TyperOption, ctx: typer.Context) -> str | None:
        is_flag = getattr(option, "is_flag", False)
        shown: str | None = None if is_flag else named(option, ctx)
        return shown

    def no_type(_argument: TyperArgument, ctx: typer.Context) -> None:
        return None

    setattr(TyperOption, "display_type_rich", display_type_rich)  # noqa: B010 - not all have it
    setattr(TyperArgument, "display_type_rich", no_type)  # noqa: B010 - not all have it


_fill_paragraphs(app)
_name_no_types()


def main() -> None:
    """The entry point of the ``smtpgate`` command."""
    gc.freeze()  # what is imported stays; to look through it at the end costs a fifth more
    app()
