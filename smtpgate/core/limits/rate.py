"""The rate: a token bucket that lends.

While it holds anything at all a message passes, however many recipients it has, and what it
took too much is earned back before the next one passes. So a message with many recipients is
never stuck for ever. The bucket is as deep as one second's rate, and never less than one token.

Tokens are whole millionths, so that what a refund gives back is exactly what was taken.
"""

from math import ceil
from typing import Final

from smtpgate.core.account import UNLIMITED

TOKEN: Final = 1_000_000
VERY_LONG_US: Final = 366 * 86_400 * 1_000_000


def depth_of(rate: float) -> int:
    """The most that the bucket holds, in millionths; a rate of 0 has no bucket."""
    return int(max(rate, 1) * TOKEN) if rate else 0


def earned(tokens: int | None, rate: float, passed_us: int) -> int | None:
    """What is held after so long; ``None`` stands for a full bucket, or for no limit."""
    if rate == UNLIMITED:
        return None
    depth = depth_of(rate)
    if tokens is None or tokens >= depth:
        return depth
    gain = passed_us * rate  # one a second is a millionth a microsecond
    return tokens + int(min(gain, depth - tokens))


def passing(tokens: int) -> int:
    """How many messages to one recipient each pass at once; the last may borrow."""
    return max(0, -(-tokens // TOKEN))


def until_positive_us(tokens: int, rate: float) -> int:
    """How long until the bucket holds something; the rate is more than 0."""
    # Two millionths above nothing: what is earned is cut to whole millionths.
    return ceil(min((2 - tokens) / rate, VERY_LONG_US))


def until_full_us(tokens: int | None, rate: float) -> int:
    """How long until the bucket holds no less than one that was never used."""
    if tokens is None or rate <= 0:
        return 0
    return ceil(min(max(0, depth_of(rate) - tokens) / rate, VERY_LONG_US))
