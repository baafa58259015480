import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.message_id import (
    compact_id,
    expanded_id,
    first_id,
    is_beginning,
    message_id,
    times_of,
)
from tests.support.rows import rows

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# The shape observed on SES.
SHAPE = re.compile(
    r"[0-9a-f]{16}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-[0-9]{6}"
)


def test_a_message_id_has_the_shape_that_clients_of_ses_look_for() -> None:
    assert SHAPE.fullmatch(message_id(AT, bytes(range(16))))


def test_message_ids_sort_by_time() -> None:
    later = message_id(AT + timedelta(milliseconds=1), bytes(16))
    assert message_id(AT, b"\xff" * 16) < later


@given(at=st.datetimes(datetime(2001, 1, 1), datetime(2999, 1, 1)), length=st.integers(0, 60))  # noqa: DTZ001
def test_the_beginning_of_an_id_says_when_its_message_came_in(
    at: datetime, length: int
) -> None:
    at = at.replace(tzinfo=UTC)
    beginning = message_id(at, bytes(16))[: length + 1]
    assert is_beginning(beginning)
    since, until = times_of(beginning)
    assert since <= at < until
    assert until - since == timedelta(milliseconds=1) or length < 15


@rows(
    "text", ["", "g", "0200", "0101", "0100-", "0100019abcdef0120", "0100019abcdef012-x", "%"]
)
def test_no_id_begins_with_other_text(text: str) -> None:
    assert not is_beginning(text)


def test_beginnings_of_ids_in_the_far_future_name_a_time_too() -> None:
    since, until = times_of("0100ffffffffffff")
    assert since == until


@given(at=st.datetimes(datetime(2001, 1, 1), datetime(2999, 1, 1)))  # noqa: DTZ001
def test_the_first_id_of_a_moment_has_its_millisecond(at: datetime) -> None:
    at = at.replace(tzinfo=UTC)
    lowest = message_id(at, bytes(16))
    assert lowest.startswith(first_id(at))
    assert expanded_id(compact_id(lowest)) == lowest
    since, until = times_of(first_id(at))
    assert since == at.replace(microsecond=at.microsecond // 1000 * 1000) < until
