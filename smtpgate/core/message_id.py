"""Message ids in SES's shape: 16 hex digits, a UUID-like middle, six digits.

The first four digits stand for the region in SES; ours are ``0100``. The next twelve are the
time in milliseconds, so that ids sort by the time of their submission.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from smtpgate.core.moments import kept_microseconds, microseconds

RANDOM_OCTETS: Final = 16
_PREFIX: Final = "0100"
_TIME_DIGITS: Final = 12
_END: Final = "-000000"
_WHOLE: Final = re.compile(
    r"0100[0-9a-f]{12}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-000000"
)
_BEGINNING: Final = re.compile(r"[0-9a-f]{1,16}|[0-9a-f]{16}-[0-9a-f-]{0,43}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def message_id(at: datetime, random: bytes) -> str:
    """The id of a submission received at that moment, made unique by 16 random octets."""
    time = (kept_microseconds(at) // 1000).to_bytes(_TIME_DIGITS // 2, "big")
    return expanded_id(time + random)


def first_id(at: datetime) -> str:
    """A text that sorts before every id of that moment, and after every id of earlier ones."""
    return f"{_PREFIX}{microseconds(at) // 1000:012x}"


def compact_id(message_id: str) -> bytes:
    """The octets of an id that are not the same in all: 6 of its time, 16 random ones.

    Raises ValueError.
    """
    if _WHOLE.fullmatch(message_id) is None:
        raise ValueError(f"{message_id!r} is no message id of this gate")
    return bytes.fromhex(message_id[len(_PREFIX) : -len(_END)].replace("-", ""))


def expanded_id(octets: bytes) -> str:
    """The id that ``compact_id`` was given."""
    digits = octets.hex()
    return (
        f"{_PREFIX}{digits[:12]}-{digits[12:20]}-{digits[20:24]}-{digits[24:28]}"
        f"-{digits[28:32]}-{digits[32:]}{_END}"
    )


def is_beginning(text: str) -> bool:
    """True if some id could begin so."""
    is_ours = _PREFIX.startswith(text[: len(_PREFIX)])
    return is_ours and _BEGINNING.fullmatch(text) is not None


def times_of(beginning: str) -> tuple[datetime, datetime]:
    """When messages came in whose ids begin so: from a moment until before another."""
    digits = beginning[len(_PREFIX) :].partition("-")[0]
    first, last = (int(digits.ljust(_TIME_DIGITS, fill), 16) for fill in "0f")
    return _moment(first), _moment(last + 1)


def _moment(milliseconds: int) -> datetime:
    longest = _LATEST - _EPOCH
    return _EPOCH + min(timedelta(milliseconds=milliseconds), longest)
