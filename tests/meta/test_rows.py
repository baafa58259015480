"""Tables that are checked in one test: each row that fails is shown."""

import pytest

from tests.support.rows import rows


def must_show(error: BaseException, *names: str) -> None:
    assert getattr(error, "__notes__", []) == [f"row: {name}" for name in names]


def test_the_only_row_that_fails_is_shown_with_its_own_error() -> None:
    @rows("number, is_even", [(1, False), (2, False), (4, True)])
    def check(number: int, is_even: bool) -> None:
        assert (number % 2 == 0) is is_even

    with pytest.raises(AssertionError) as failed:
        check()
    must_show(failed.value, "2, False")


async def test_all_rows_are_checked_and_every_one_that_fails_is_shown() -> None:
    checked = list[str]()

    @rows("word", [pytest.param("", id="nothing"), "a", "b"])
    async def check(word: str) -> None:
        checked.append(word)
        assert word == "a"

    with pytest.raises(ExceptionGroup) as failed:
        await check()
    assert checked == ["", "a", "b"]
    for error, name in zip(failed.value.exceptions, ("nothing", "'b'"), strict=True):
        must_show(error, name)
    assert "  nothing\n  'b'" in str(failed.value)


def test_rows_in_rows_name_both_and_the_rest_is_for_fixtures() -> None:
    @rows("first", "ab", ids=str.upper)
    @rows("second", [1, 2], ids=["one", "two"])
    def check(given: int, first: str, second: int) -> None:
        assert (first, second) != ("b", given)

    with pytest.raises(AssertionError) as failed:
        check(given=2)
    must_show(failed.value, "two", "B")


def test_a_row_with_a_wrong_number_of_values_fails() -> None:
    @rows("first, second", [(1, 2), (3,)])
    def check(first: int, second: int) -> None:
        assert (first, second) == (1, 2)

    with pytest.raises(ValueError, match="shorter") as failed:
        check()
    must_show(failed.value, "3")
