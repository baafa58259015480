"""The options that name sending limits, and how limits are shown."""

from typing import Annotated, Any, TypeAlias

import typer

from smtpgate.cli.terminal import misused
from smtpgate.core.account import UNLIMITED

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


def limit_columns(quota: str | None, rate: str | None) -> dict[str, Any]:
    """The columns that the options name; ``default`` is ``None``. Raises BadParameter."""
    columns: dict[str, Any] = {}
    if quota is not None:
        columns["max_24h_send"] = _number(quota, int, "--max-24h-send")
    if rate is not None:
        columns["max_send_rate_per_s"] = _number(rate, float, "--max-send-rate")
    return columns


def _number(text: str, kind: type[int] | type[float], option: str) -> float | None:
    if text in ("default", "unlimited"):
        return None if text == "default" else kind(UNLIMITED)
    try:
        return kind(text)
    except ValueError:
        raise misused(f"{option}: `{text}' is no number, unlimited or default") from None


def shown_limit(value: object) -> object:
    """A limit as people read it."""
    if value is None:
        return "default"
    return "unlimited" if value == UNLIMITED else value
