"""The terminal, for every command: two consoles, common options, failure with a message."""

import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from smtpgate.cli.listing import shown
from smtpgate.config import Config, ConfigError, load_config
from smtpgate.config.toml import reason

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_CONFIG: Final = Path("/etc/smtpgate/smtpgate.toml")
CONFIG_VARIABLE: Final = "SMTPGATE_CONFIG"


class _Terminal:
    """One of the two consoles. Rich is imported when the first line is printed."""

    def __init__(self, *, is_stderr: bool) -> None:
        self._is_stderr = is_stderr

    @cached_property
    def _console(self) -> "Console":
        from rich.console import Console  # noqa: PLC0415 - a twentieth of a command's start

        return Console(stderr=self._is_stderr, highlight=False, soft_wrap=True, markup=False)

    def print(self, line: object) -> None:
        """Print a line as it is: neither folded nor read as markup."""
        self._console.print(line)


errors: Final = _Terminal(is_stderr=True)
output: Final = _Terminal(is_stderr=False)

ConfigFile: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar=CONFIG_VARIABLE,
        help="The configuration file (TOML).",
    ),
]
OptionalConfig: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar=CONFIG_VARIABLE,
        help="The configuration file (TOML) that names the directory.",
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Limit: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="At most so many; else all.", show_default=False),
]
Reason: TypeAlias = Annotated[
    str, typer.Option(metavar="TEXT", help="Why; senders read it in each refusal.")
]


def fail(problem: object) -> typer.Exit:
    """Print a problem, and return the exit to raise."""
    if isinstance(problem, PermissionError) and problem.filename:
        problem = (
            f"{problem.filename}: {reason(problem)}; give the command as root, or as the user "
            f"that the gate runs as"
        )
    typer.echo(shown(str(problem)), err=True)
    return typer.Exit(1)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings, a line each."""
    for warning in warnings:
        typer.echo(f"warning: {shown(warning)}", err=True)


class _MisuseError(typer.BadParameter):
    """Misuse that is not of one parameter alone."""

    def format_message(self) -> str:
        return self.message


def misused(problem: str) -> typer.BadParameter:
    """The error to raise for what can be known to be wrong without doing anything (exit 2)."""
    return _MisuseError(problem)


def _parser(parse: Callable[[str], object] | None) -> Callable[[str], object] | None:
    if parse is None:
        return None

    def parser(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parser


def option(
    *names: str,
    parse: Callable[[str], object] | None = None,
    **attributes: Any,  # noqa: ANN401 - as Typer takes them
) -> Any:  # noqa: ANN401 - as Typer returns it
    """An option whose default the help does not show. ``parse`` may raise ValueError."""
    return typer.Option(*names, parser=_parser(parse), show_default=False, **attributes)


def argument(
    parse: Callable[[str], object] | None = None,
    **attributes: Any,  # noqa: ANN401 - as Typer takes them
) -> Any:  # noqa: ANN401 - as Typer returns it
    """An argument whose default the help does not show. ``parse`` may raise ValueError."""
    return typer.Argument(parser=_parser(parse), show_default=False, **attributes)


def one_of(choices: Iterable[str]) -> str:
    """An option's choices, for its help: beside the option a long list would be cut."""
    *others, last = choices
    return f"{', '.join(others)} or {last}"


def example(line: str) -> str:
    """The line below the help of a command."""
    return f"Example: smtpgate {line}"


def is_interactive() -> bool:
    """True if a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(operation: str, *, yes: bool) -> None:
    """Ask on a terminal whether to go on with an operation that cannot be undone.

    Without a terminal, and without ``--yes``, it is misuse (exit 2).
    """
    if yes:
        return
    if not is_interactive():
        raise misused(f"{operation}: say --yes, since there is no terminal to ask on")
    if not typer.confirm(f"{operation}. Go on?", err=True):
        raise fail("nothing was changed")


def loaded_config(path: Path) -> Config:
    """The configuration. Exits with 1 when it cannot be used.

    Its warnings are for ``serve`` and ``check-config`` alone.
    """
    try:
        return load_config(path)
    except (ConfigError, PermissionError) as error:
        if path != DEFAULT_CONFIG or path.exists():
            raise fail(error) from None
        cure = "name another file, or make one with `smtpgate init'"
        raise fail(f"there is no configuration {path}: {cure}") from None


def print_upgrade(before: str | None, head: str) -> None:
    """Print what an upgrade of tables has done: from which revision, if any, to which."""
    if before == head:
        output.print(f"the tables are at revision {head} already")
    elif before is None:
        output.print(f"the tables are made, at revision {head}")
    else:
        output.print(f"the tables are upgraded from revision {before} to {head}")
