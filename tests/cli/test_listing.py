"""Tables for people: whatever the width of the terminal, each word can be copied whole."""

import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from operator import itemgetter
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.admin.paging import in_pages
from smtpgate.cli.listing import View, print_card, print_table
from tests.support.rows import rows

ARN: Final = "arn:aws:ses:us-east-1:888888888888:identity/marketing.ses-example.com"
ROW: Final = {
    "message": "0100019abcdef012-01234567-89ab-cdef-0123-456789abcdef-000000",
    "identity": ARN,
    "from": "marketing+spring-collection@marketing.ses-example.com",
    "reason": "implicit-deny: no Allow statement of one side (user or identity) applies",
    "recipients": 2,
}


class Terminal(io.StringIO):
    """A listing for people."""

    def isatty(self) -> bool:
        return True


def printed(width: int, rows: Sequence[Mapping[str, object]]) -> str:
    """The text on a terminal that is so wide, without escape sequences."""
    view: View[Mapping[str, object]] = View(
        columns={name: itemgetter(name) for name in rows[0]},
        fields=dict,
        nothing="",
    )
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        patch.setenv("COLUMNS", str(width))
        patch.setenv("TERM", "xterm")
        print_table(rows, view, title="Messages")
        print_card(rows[0])
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())


@rows("width", [20, 40, 80, 100, 120, 160, 240, 400])
def test_no_id_arn_or_address_is_cut_at_any_width(width: int) -> None:
    text = printed(width, [ROW, ROW])
    for word in " ".join(map(str, ROW.values())).split():
        assert len(re.findall(rf"(?<!\S){re.escape(word)}(?!\S)", text)) >= 3, word
    assert "…" not in text


def test_a_table_never_passes_the_width_that_it_has() -> None:
    lines = printed(240, [ROW]).splitlines()
    assert any("┃" in line for line in lines)
    assert max(map(len, lines)) <= 240


def test_rows_that_do_not_fit_are_blocks_with_their_columns_names() -> None:
    lines = printed(60, [ROW, ROW | {"recipients": 3}]).splitlines()
    assert not any("┃" in line for line in lines)
    assert f"identity    {ARN}" in lines
    assert "recipients  2" in lines
    assert "recipients  3" in lines


WORD = st.text("abc@.:/-é漢", min_size=1, max_size=30)
CELL = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(10, 200),
)
def test_every_word_of_a_table_stands_there_whole(rows: list[list[str]], width: int) -> None:
    text = printed(width, [dict(zip("abc", row, strict=True)) for row in rows]).split()
    assert {word for row in rows for cell in row for word in cell.split()} <= set(text)


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
