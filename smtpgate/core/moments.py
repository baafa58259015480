"""Moments as whole microseconds since 1970, as the ledger and the journal keep them."""

from datetime import UTC, datetime, timedelta
from typing import Final

from smtpgate.core.made_once import made_once

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """The moment in microseconds since 1970."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# Log, journal, metrics and signature write the same two moments of a message, each in its form.
kept_microseconds: Final = made_once(microseconds)


def seconds_between(began: datetime, ended: datetime) -> float:
    """The time of a message from one of its moments to another, in seconds."""
    return (ended - began).total_seconds()


def moment(us: int) -> datetime:
    """The moment of so many microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=us)
