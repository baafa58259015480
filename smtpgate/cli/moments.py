"""Times as people write them: a date, a moment, or a number of days; in UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["moment_of"]

_SPAN: Final = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment_of(text: str, now: datetime, *, ahead: bool) -> datetime:
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
