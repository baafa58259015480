"""``smtpgate serve``, ``check-config``, ``init`` and ``demo``: a gate, run or made ready."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.cli.listing import shown
from smtpgate.cli.terminal import (
    CONFIG_VARIABLE,
    DEFAULT_CONFIG,
    ConfigFile,
    fail,
    loaded_config,
    output,
    warn,
)
from smtpgate.config import ConfigError
from smtpgate.config.toml import FileProblemsError
from smtpgate.control import ControlError, ReloadAnswer, ReloadRequest, ask
from smtpgate.demo import run_demo
from smtpgate.gate.check import check
from smtpgate.gate.errors import OpenError
from smtpgate.gate.initialize import InitError, Sample, initialize
from smtpgate.gate.listen import FILES_OF_SMALL_GATE, require_open_files
from smtpgate.gate.serve import run

# Documents of a large directory take their time.
_RELOAD_S: Final = 300.0

_File: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", envvar=CONFIG_VARIABLE, help="The configuration file (TOML)."
    ),
]


def serve(
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Run the gate until SIGTERM, then drain; SIGHUP reloads what has changed."""
    loaded = loaded_config(config)
    warn(loaded.warnings)
    try:
        run(loaded)
    except (FileProblemsError, OpenError, OSError) as error:
        raise fail(error) from None


def reload(
    config: ConfigFile = DEFAULT_CONFIG,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would change, and change nothing.")
    ] = False,
) -> None:
    """Have the running gate load what has changed, and wait until all its workers have.

    It loads the configuration, certificates and documents. A configuration with an error
    changes nothing at all, and the gate goes on with the one that it has; a certificate or a
    document that cannot be used stays as it was. Both are reported, and make the exit status 1.

    Open sessions go on, with the newer settings from their next message. Keys that need a
    restart are listed; their values stay as they are until then.
    """
    loaded = loaded_config(config)
    warn(loaded.warnings)
    request, path = ReloadRequest(is_check=check), loaded.control_path
    try:
        (answer,) = ask(path, request, ReloadAnswer, timeout_s=_RELOAD_S)
    except ControlError as error:
        raise fail(error) from None
    if not answer.is_refused:
        _print_changes(answer, "would change" if check else "changed")
    if answer.problems:
        raise fail("\n".join(answer.problems))


def _print_changes(answer: ReloadAnswer, changed: str) -> None:
    for key in answer.changed:
        output.print(f"{changed}: {shown(key)}")
    for key in answer.restart:
        output.print(f"needs a restart: {shown(key)}")
    if not answer.changed and not answer.restart:
        output.print("the configuration is as it was")


def check_config(file: _File = DEFAULT_CONFIG) -> None:
    """Check the configuration, the directory and the journal, and start nothing."""
    loaded = loaded_config(file)
    warn(loaded.warnings)
    try:
        summary = asyncio.run(check(loaded))
    except (FileProblemsError, OpenError, OSError) as error:
        raise fail(error) from None
    output.print(f"{file}: fine")
    for line in summary:
        output.print(f"  {line}")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of the configuration.")
    ],
    hostname: Annotated[
        str | None, typer.Option(metavar="NAME", help="gate.hostname of a new configuration.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="gate.state_dir of a new configuration.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Your domain, for new documents.")
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="For a further host: make nothing that hosts share.")
    ] = False,
) -> None:
    """Create a configuration, if there is none, and the keys and secrets that are missing.

    Makes what the configuration names and does not exist: a self-signed certificate, the master
    key, access key secrets, DKIM keys. Never overwrites anything; prints SMTP passwords and DNS
    records once.

    With --join it makes a configuration without documents and a certificate, and lists what to
    copy from a host that shares the directory with this one.
    """
    sample = Sample(hostname=hostname, state_dir=state_dir, domain=domain, join=join)
    try:
        report = initialize(folder, sample)
    except (InitError, ConfigError, FileProblemsError, OSError) as error:
        raise fail(error) from None
    output.print(str(report))


def demo() -> None:
    """Show a real gate on loopback: messages that it accepts and messages that it refuses."""
    try:
        require_open_files(FILES_OF_SMALL_GATE)
        has_passed = run_demo(sys.stdout.write)
    except OpenError as error:
        raise fail(error) from None
    raise typer.Exit(0 if has_passed else 1)
