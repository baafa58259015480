"""Message ids in SES's shape: 16 hex digits, a UUID-like middle, six digits.

The first four digits stand for the region in SES; ours are ``0100``. The next twelve are the
time in milliseconds, so that ids sort by the time of their submission.
"""

from datetime import datetime
from typing import Final

RANDOM_OCTETS: Final = 16
_PREFIX: Final = "0100"


def message_id(at: datetime, random: bytes) -> str:
    """The id of a submission that came at that moment, made unique by 16 random octets."""
    digits = random.hex()
    middle = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))
    return f"{first_id(at)}-{middle}-000000"


def first_id(at: datetime) -> str:
    """What sorts before every id of that moment, and behind every id of an earlier one."""
    milliseconds = int(at.timestamp() * 1000)
    return f"{_PREFIX}{milliseconds:012x}"
