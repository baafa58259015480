"""Files with suppression lists: what is written is read back, and any text has its answer."""

from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.suppression.files import (
    BadLine,
    ListFormat,
    list_header,
    list_line,
    read_list,
)
from smtpgate.core.suppression.lists import ALL_REASONS, SuppressedAddress, read_address

NOW: Final = datetime(2026, 11, 29, 9, 0, tzinfo=UTC)
ID: Final = "0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000"
JANE: Final = "jane@example.org"

addresses = st.sampled_from(
    [JANE, '"a,b"@example.org', '"a\\"b"@example.org', '"@"@example.org', "jürgen@example.org"]
).map(read_address)
entries = st.lists(
    st.builds(
        SuppressedAddress,
        addresses,
        st.sampled_from(ALL_REASONS),
        st.datetimes(timezones=st.just(UTC), min_value=datetime(1990, 1, 1)),  # noqa: DTZ001
        st.sampled_from(["", ID]),
    )
)
formats = st.sampled_from(("csv", "json"))


@given(entries, formats)
def test_what_is_written_is_read_back(
    written: list[SuppressedAddress], form: ListFormat
) -> None:
    lines = [list_header(form), *(list_line(one, form) for one in written)]
    assert list(read_list(lines, form, NOW)) == written


@given(st.lists(st.text(max_size=60)), formats)
def test_every_line_is_an_entry_or_a_problem_with_its_number(
    lines: list[str], form: ListFormat
) -> None:
    numbers = [one.number for one in read_list(lines, form, NOW) if isinstance(one, BadLine)]
    assert numbers == sorted(set(numbers))
    assert all(1 <= number <= len(lines) for number in numbers)


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("csv", "Jane@Example.org,BOUNCE"),
        ("csv", "\ufeffjane@example.org, bounce \r\n"),
        ("csv", '"jane@example.org","BOUNCE",,'),
        ("json", '{"emailAddress":"jane@example.org","reason":"BOUNCE"}'),
        ("json", '{"EmailAddress":"jane@example.org","Reason":"BOUNCE","Attributes":{}}'),
    ],
)
def test_the_forms_of_ses_are_read(form: ListFormat, line: str) -> None:
    assert list(read_list([line], form, NOW)) == [SuppressedAddress(JANE, "BOUNCE", NOW)]


def test_a_header_may_order_the_columns_and_have_others() -> None:
    lines = ["reason,note,EMAILADDRESS\n", "COMPLAINT,unhappy,jane@example.org\n", "\n"]
    assert list(read_list(lines, "csv", NOW)) == [SuppressedAddress(JANE, "COMPLAINT", NOW)]


@pytest.mark.parametrize(
    ("form", "line", "problem"),
    [
        ("csv", "jane@example.org", "reason is missing"),
        ("csv", "jane@example.org,SPAM", "`SPAM' is no reason"),
        ("csv", "jane@,BOUNCE", "emailAddress `jane@':"),
        ("csv", "jane@example.org,BOUNCE,yesterday", "lastUpdateTime: `yesterday' is no time"),
        ("csv", "jane@example.org,BOUNCE,,m1", "'m1' is no message id"),
        ("csv", "a@example.org,BOUNCE,,,five", "5 columns, and there are at most 4"),
        ("csv", 'a@example.org,"BOUNCE', "no CSV"),
        ("csv", "address,why", "the header has no column emailAddress"),
        ("csv", "a" * 2001, "more than 2000 characters"),
        ("json", "{", "no JSON"),
        ("json", "[]", "no JSON object"),
        ("json", '{"reason":"BOUNCE"}', "emailAddress is missing"),
        ("json", '{"emailAddress":5,"reason":"BOUNCE"}', "emailAddress is no text"),
    ],
)
def test_a_line_that_cannot_be_read_says_why(form: ListFormat, line: str, problem: str) -> None:
    (found,) = read_list([line], form, NOW)
    assert isinstance(found, BadLine)
    assert found.number == 1
    assert problem in found.problem
