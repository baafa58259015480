"""A value that was made of one object is never given for another one."""

from smtpgate.core.made_once import made_once


def test_it_is_made_again_only_for_another_object() -> None:
    made: list[tuple[int, ...]] = []

    @made_once
    def total(numbers: tuple[int, ...]) -> int:
        made.append(numbers)
        return sum(numbers)

    one, other = tuple(range(3)), tuple(range(3))
    assert [total(one), total(other), total(one)] == [3, 3, 3]
    assert made == [one, other]


def test_an_object_that_is_gone_is_not_taken_for_another() -> None:
    @made_once
    def total(numbers: tuple[int, ...]) -> int:
        return sum(numbers)

    for number in range(2000):
        assert total(tuple(range(number, number + 2))) == 2 * number + 1
