"""The moments of a message as numbers, and the time from one to another."""

from datetime import UTC, datetime, timedelta

import pytest

from smtpgate.core.moments import kept_microseconds, microseconds, moment, seconds_between

_BEGAN = datetime(2026, 11, 30, 12, 0, 0, 999_999, tzinfo=UTC)


@pytest.mark.parametrize("us", [0, 1, 999_999, 1_000_000, 123_456_789, -1, -1_500_000])
def test_the_time_between_two_moments_is_that_of_datetime(us: int) -> None:
    passed = timedelta(microseconds=us)
    assert seconds_between(_BEGAN, _BEGAN + passed) == passed.total_seconds()


def test_a_moment_of_another_zone_is_the_same_number() -> None:
    there = _BEGAN.astimezone()
    assert kept_microseconds(there) == kept_microseconds(_BEGAN) == microseconds(_BEGAN)
    assert moment(kept_microseconds(there)) == _BEGAN
