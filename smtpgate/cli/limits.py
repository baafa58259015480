"""The options that name sending limits, and how limits are shown."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, TypeAlias, TypeVar

from smtpgate.cli.terminal import misused, option
from smtpgate.core.account import UNLIMITED

N = TypeVar("N", int, float)

_QUOTA: Final = "--max-24h-send"
_RATE: Final = "--max-send-rate"


_option: Final = partial(option, metavar="N")
_USUAL: Final = "a number, unlimited, or default."
_RAISED: Final = "a number, or unlimited."  # the default is no raise
QuotaOption: TypeAlias = Annotated[
    str | None, _option(_QUOTA, help=f"Recipients in any 24 hours: {_USUAL}")
]
RateOption: TypeAlias = Annotated[
    str | None, _option(_RATE, help=f"Recipients a second: {_USUAL}")
]
RaisedQuotaOption: TypeAlias = Annotated[
    str | None, _option(_QUOTA, help=f"Recipients in any 24 hours: {_RAISED}")
]
RaisedRateOption: TypeAlias = Annotated[
    str | None, _option(_RATE, help=f"Recipients a second: {_RAISED}")
]


def quota_number(text: str) -> int | None:
    """The limit that an option names, ``None`` for the default. Raises BadParameter."""
    return _number(text, int, _QUOTA)


def rate_number(text: str) -> float | None:
    """The limit that an option names, ``None`` for the default. Raises BadParameter."""
    return _number(text, float, _RATE)


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
