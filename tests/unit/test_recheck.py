from datetime import UTC, datetime, timedelta

import pytest

from smtpgate.core.proof.recheck import LONGEST_WAIT, CheckPhase, is_due, next_check_at

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
YOUNG = timedelta(0)


@pytest.mark.parametrize(
    ("phase", "minutes"), [("pending", 1), ("success", 360), ("missing", 60), ("signing", 60)]
)
def test_the_jitter_moves_a_check_by_up_to_a_tenth(phase: CheckPhase, minutes: int) -> None:
    interval = timedelta(minutes=minutes)
    assert next_check_at(phase, YOUNG, NOW, 0) == NOW + interval * 0.9
    assert next_check_at(phase, YOUNG, NOW, 0.5) == NOW + interval
    assert NOW + interval * 1.09 < next_check_at(phase, YOUNG, NOW, 0.99) < NOW + interval * 1.1


@pytest.mark.parametrize("jitter", [-0.1, 1.0, 2.0, float("nan")])
def test_a_jitter_out_of_its_range_is_an_error(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        next_check_at("pending", YOUNG, NOW, jitter)


def test_a_check_is_due_at_its_moment_and_later() -> None:
    second = timedelta(seconds=1)
    assert is_due(NOW, NOW)
    assert is_due(NOW - second, NOW)
    assert not is_due(NOW + second, NOW)
    assert not is_due(None, NOW)


def test_a_check_planned_by_a_clock_that_was_ahead_is_due() -> None:
    assert not is_due(NOW + LONGEST_WAIT, NOW)
    assert is_due(NOW + LONGEST_WAIT + timedelta(seconds=1), NOW)
