"""What every command needs of the terminal: two consoles, and how a command fails."""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from rich.console import Console

from smtpgate.config import Config, ConfigError, load_config

__all__ = ["OptionalConfig", "errors", "fail", "loaded_config", "output"]

errors: Final = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
output: Final = Console(highlight=False, soft_wrap=True, markup=False)

OptionalConfig: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration file (TOML) that names the directory.",
        show_default=False,
    ),
]


def fail(problem: object) -> typer.Exit:
    """Tell the problem; the exit to raise."""
    errors.print(str(problem))
    return typer.Exit(1)


def loaded_config(path: Path) -> Config:
    """The configuration, with its warnings told. Exits with 1 when it cannot be used."""
    try:
        config = load_config(path)
    except ConfigError as error:
        raise fail(error) from None
    for warning in config.warnings:
        errors.print(f"warning: {warning}")
    return config
