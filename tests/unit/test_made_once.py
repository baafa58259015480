"""A value that was made of one object is never given for another one."""

from smtpgate.core.made_once import made_once, made_once_with


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


def test_it_is_made_again_for_other_objects_beside_the_same_one() -> None:
    made: list[int] = []

    @made_once_with
    def total(numbers: tuple[int, ...], more: int, still_more: int) -> int:
        made.append(more)
        return sum(numbers) + more + still_more

    one, other = tuple(range(3)), tuple(range(3))
    assert [total(one, 10, 7), total(one, 10, 7), total(other, 10, 7)] == [20, 20, 20]
    assert [total(one, 20, 7), total(one, 20, 8), total(one, 10, 7)] == [30, 31, 20]
    assert made == [10, 10, 20, 20, 10]


def test_an_object_beside_others_that_is_gone_is_not_taken_for_another() -> None:
    @made_once_with
    def total(numbers: tuple[int, ...], more: int) -> int:
        return sum(numbers) + more

    for number in range(2000):
        assert total(tuple(range(number, number + 2)), 1) == 2 * number + 2
