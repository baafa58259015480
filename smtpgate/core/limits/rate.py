"""The rate limit: a token bucket that allows a debt.

A message passes if the bucket has any tokens, with any number of recipients; its debt is earned
back before the next message passes. So a message with many recipients is never stuck for ever.
The bucket is as deep as one second's rate, and at least one token.

Tokens are whole millionths, so that a refund gives back exactly the tokens that were taken.
"""

from math import ceil
from typing import Final

from smtpgate.core.account import UNLIMITED

TOKEN: Final = 1_000_000
VERY_LONG_US: Final = 366 * 86_400 * 1_000_000


def depth_of(rate: float) -> int:
    """The size of the bucket, in millionths of a token; a rate of 0 has no bucket."""
    if rate <= 1:
        return TOKEN if rate else 0
    return int(rate * TOKEN)


def earned(tokens: int | None, rate: float, passed_us: int) -> int | None:
    """The tokens after a time; ``None`` stands for a full bucket, or for no limit."""
    if rate == UNLIMITED:
        return None
    depth = depth_of(rate)
    if tokens is None or tokens >= depth:
        return depth
    gain = passed_us * rate  # one a second is a millionth a microsecond
    return tokens + int(gain) if gain < depth - tokens else depth


def passing(tokens: int) -> int:
    """The number of messages to one recipient each that pass now; the last may cause a debt."""
    return max(0, -(-tokens // TOKEN))


def until_positive_us(tokens: int, rate: float) -> int:
    """The time until the bucket has any tokens; the rate is more than 0."""
    # Two millionths above nothing: earned tokens are rounded down to whole millionths.
    return ceil(min((2 - tokens) / rate, VERY_LONG_US))


def until_full_us(tokens: int | None, rate: float) -> int:
    """The time until the bucket is full."""
    if tokens is None or rate <= 0:
        return 0
    missing = depth_of(rate) - tokens
    return ceil(min(missing / rate, VERY_LONG_US)) if missing > 0 else 0
