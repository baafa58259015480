"""The options that name sending limits, and how limits are shown."""

from collections.abc import Callable
from typing import Annotated, TypeAlias, TypeVar

import typer

from smtpgate.cli.terminal import misused
from smtpgate.core.account import UNLIMITED

N = TypeVar("N", int, float)

QuotaOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-24h-send",
        metavar="N",
        help="Recipients in any 24 hours: a number, unlimited, or default.",
        show_default=False,
    ),
]
RateOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-send-rate",
        metavar="N",
        help="Recipients a second: a number, unlimited, or default.",
        show_default=False,
    ),
]


RaisedQuotaOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-24h-send",
        metavar="N",
        help="Recipients in any 24 hours: a number, or unlimited.",
        show_default=False,
    ),
]
RaisedRateOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-send-rate",
        metavar="N",
        help="Recipients a second: a number, or unlimited.",
        show_default=False,
    ),
]


def quota_number(text: str) -> int | None:
    """The limit that an option names, ``None`` for the default. Raises BadParameter."""
    return _number(text, int, "--max-24h-send")


def rate_number(text: str) -> float | None:
    """The limit that an option names, ``None`` for the default. Raises BadParameter."""
    return _number(text, float, "--max-send-rate")


def _number(text: str, kind: Callable[[str], N], option: str) -> N | None:
    if text in ("default", "unlimited"):
        return None if text == "default" else kind(str(UNLIMITED))
    try:
        return kind(text)
    except ValueError:
        raise misused(f"{option}: `{text}' is not a number, unlimited or default") from None


def shown_limit(value: object) -> object:
    """A limit as people read it."""
    if value is None:
        return "default"
    return "unlimited" if value == UNLIMITED else value
