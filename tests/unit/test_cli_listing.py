"""How commands show what there is much of."""

from collections.abc import AsyncIterator

import pytest

from smtpgate.cli.listing import in_pages


@pytest.mark.parametrize(
    ("number", "pages"),
    [(0, []), (1, [[0]]), (2, [[0, 1]]), (3, [[0, 1], [2]]), (4, [[0, 1], [2, 3]])],
)
async def test_things_that_come_one_by_one_are_put_in_pages(
    number: int, pages: list[list[int]]
) -> None:
    async def things() -> AsyncIterator[int]:
        for thing in range(number):
            yield thing

    assert [page async for page in in_pages(things(), 2)] == pages
