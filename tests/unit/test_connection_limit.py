import pytest

from smtpgate.relay.limit import ConnectionLimit


def test_it_is_as_configured_until_one_is_refused() -> None:
    limit = ConnectionLimit(20)
    limit.accepted(1)
    assert limit.at(0) == limit.at(1e9) == 20


@pytest.mark.parametrize(("working", "learned"), [(2, 2), (1, 1), (0, 1), (25, 20)])
def test_it_is_what_worked_when_one_more_was_refused(working: int, learned: int) -> None:
    limit = ConnectionLimit(20)
    assert limit.refused(working, 100) == (learned < 20)
    assert limit.at(100) == limit.at(159) == learned


def test_one_more_is_tried_after_a_while_and_as_long_as_it_is_taken() -> None:
    limit = ConnectionLimit(5)
    limit.refused(2, 100)
    assert [limit.at(moment) for moment in (159.9, 160, 1000)] == [2, 3, 3]
    limit.accepted(3)
    assert limit.at(160) == 4
    limit.accepted(4)
    limit.accepted(5)
    assert limit.at(160) == 5


def test_one_that_is_refused_again_costs_one_try_a_while() -> None:
    limit = ConnectionLimit(5)
    assert limit.refused(2, 100)
    assert not limit.refused(2, 160)
    assert [limit.at(moment) for moment in (160, 219, 220)] == [2, 2, 3]


def test_one_that_was_under_way_raises_it_at_once() -> None:
    limit = ConnectionLimit(5)
    limit.refused(1, 100)
    limit.accepted(2)
    assert limit.at(100) == 2


def test_it_is_forgotten_when_none_works() -> None:
    limit = ConnectionLimit(5)
    limit.refused(1, 100)
    limit.forget()
    assert limit.at(100) == 5
