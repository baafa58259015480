"""Listings in pages, so that a directory of any size fits into memory."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from smtpgate.admin.session import Session

T = TypeVar("T")
P = TypeVar("P")
_PAGE: Final = 500


async def pages_of(
    read: Callable[[P, int], Awaitable[Sequence[T]]],
    after: P,
    position_of: Callable[[T], P],
    limit: int | None,
) -> AsyncIterator[list[T]]:
    """All rows that a paged query finds, at most ``limit``.

    ``read`` is given the position after which to read, and a number of rows.
    """
    left = sys.maxsize if limit is None else limit
    while left > 0:
        size = min(_PAGE, left)
        rows = list(await read(after, size))
        if rows:
            yield rows
        if len(rows) < size:
            return
        after, left = position_of(rows[-1]), left - size


async def rows_in_pages(
    session: Session,
    read: Callable[..., Awaitable[Sequence[T]]],
    after: P,
    position_of: Callable[[T], P],
    limit: int | None,
) -> AsyncIterator[list[T]]:
    """The same for a query of the directory: ``read`` has a connection first."""

    async def page(after: P, size: int) -> Sequence[T]:
        async with session.store.reading() as connection:
            return await read(connection, after=after, limit=size)

    async for rows in pages_of(page, after, position_of, limit):
        yield rows


async def in_pages(
    things: AsyncIterator[T], size: int, limit: int | None = None
) -> AsyncIterator[list[T]]:
    """Things that come one by one, so many at a time; at most ``limit``."""
    page: list[T] = []
    left = sys.maxsize if limit is None else limit
    async for thing in things:
        page.append(thing)
        left -= 1
        if len(page) == size or not left:
            yield page
            page = []
        if not left:
            return
    if page:
        yield page
