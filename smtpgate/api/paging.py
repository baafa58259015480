"""Lists in pages: tokens that name the place where the next page begins.

A token has only a name of the caller's own account in it, and a forged one finds no more than
the caller may list; so it is not signed, and read strictly.
"""

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

from smtpgate.api.call import Call
from smtpgate.core.api.faults import ApiError

T = TypeVar("T")
_MAX_TOKEN: Final = 2000
MAX_PAGE: Final = 1000


def size_of(call: Call, name: str, default: int = 100) -> int:
    """The wanted number of items, at least 1. Raises ApiError."""
    size: int = call.values.get(name) or default
    if not 1 <= size <= MAX_PAGE:
        raise ApiError("invalid-value", f"{name} must be from 1 to {MAX_PAGE}.")
    return size


def after_of(call: Call) -> str:
    """The name behind which the page begins; empty for the first page. Raises ApiError."""
    token = call.text("NextToken")
    unknown = ApiError("bad-token", "The NextToken is not one that was given out.")
    if len(token) > _MAX_TOKEN:
        raise unknown
    try:
        return base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise unknown from None


def token_of(name: str) -> str:
    """The token of the page behind that name."""
    return base64.urlsafe_b64encode(name.encode()).decode("ascii")


async def page_of(
    pages: AsyncIterator[Sequence[T]], size: int, name_of: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The items of one page, and the token of the next if there are more.

    ``pages`` must have been asked for one more than ``size``.
    """
    found = [item async for page in pages for item in page]
    if len(found) <= size:
        return found, None
    return found[:size], token_of(name_of(found[size - 1]))
