"""Moments as numbers and as texts of the log, against the slower ways to make them."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.moments import microseconds, moment
from smtpgate.log.lines import time_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
since = st.timedeltas(timedelta(days=-7_000), timedelta(days=60_000))
zones = st.integers(-12, 12).map(lambda hours: timezone(timedelta(hours=hours)))
moments = st.builds(lambda some, zone: (EPOCH + some).astimezone(zone), since, zones)


@given(moments)
@example(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
def test_a_moment_is_its_number_of_microseconds(at: datetime) -> None:
    us = microseconds(at)
    assert us == (at - EPOCH) // timedelta(microseconds=1)
    assert moment(us) == at


@given(moments)
@example(datetime(2026, 11, 23, 10, 0, 0, 999_999, tzinfo=UTC))
@example(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
def test_a_moment_in_the_log_has_milliseconds_in_utc(at: datetime) -> None:
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    assert time_text(at) == text.replace("+00:00", "Z")
