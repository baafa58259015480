"""Times as people write them, and their options: a date, a moment, or a span; all in UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

from smtpgate.cli.terminal import misused, option
from smtpgate.clock import SystemClock

_SPAN: Final = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Since: TypeAlias = Annotated[
    str | None, option(metavar="TIME", help="Not before: 2h, 7d, 2027-01-31.")
]
Until: TypeAlias = Annotated[
    str | None, option(metavar="TIME", help="Before: 1h, 2027-01-31T12:00Z.")
]


def _moment(text: str, now: datetime, *, ahead: bool) -> datetime:
    """The moment that a text names: ``90d`` from now (or ago), or ``2027-01-31T12:00Z``.

    A date is its first moment; a time without a zone is in UTC. Raises ValueError.
    """
    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            length = timedelta(**{_UNITS[span["unit"]]: int(span["number"])})
            return now + length if ahead else now - length
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"`{text}' is no time such as 2027-01-31, 2027-01-31T12:00Z or 90d"
        ) from None


def moment_option(text: str | None, option: str, *, ahead: bool = False) -> datetime | None:
    """The moment that an option names, which may have to lie ahead. Raises BadParameter."""
    if text is None:
        return None
    now = SystemClock().now()
    try:
        moment = _moment(text, now, ahead=ahead)
    except ValueError as error:
        raise misused(f"{option}: {error}") from None
    if ahead and moment <= now:
        raise misused(f"{option}: `{text}' has passed already")
    return moment
