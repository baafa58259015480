"""Reports of any octets: read without an error, within bounds, with values that are whole."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.feedback.bounds import (
    MAX_ADDRESS,
    MAX_DIAGNOSTIC,
    MAX_PARTS,
    MAX_RECIPIENTS,
    MAX_VALUE,
)
from smtpgate.core.feedback.codes import reply_in, status_in
from smtpgate.core.feedback.mime import read_message
from smtpgate.core.feedback.record import RecordError
from smtpgate.core.feedback.records import read_record, read_records
from smtpgate.core.feedback.report import ReportedRecipient
from smtpgate.core.feedback.return_path import is_valid, return_path, tagged_path
from smtpgate.core.message_id import compact_id, expanded_id, message_id
from tests.support.reports import pieces_of_reports, read_report, status_report

KEYS = st.binary(min_size=32, max_size=64)
IDS = st.builds(
    message_id,
    st.datetimes(datetime(1970, 1, 2), datetime(8000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.binary(min_size=16, max_size=16),
)
DOMAINS = st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,20}){1,3}", fullmatch=True)


@given(st.binary(max_size=4000) | pieces_of_reports())
def test_any_octets_are_read_within_bounds(octets: bytes) -> None:
    report = read_report(octets)
    assert len(report.recipients) <= MAX_RECIPIENTS
    for one in report.recipients:
        assert one.address
        assert len(one.address) <= MAX_ADDRESS + 1
        assert len(one.diagnostic) <= MAX_DIAGNOSTIC
        assert (one.kind is not None) == (one.action in {"failed", "delayed"})
        assert status_in(one.status) == one.status
        assert not one.reply or reply_in(f"{one.reply} x") == one.reply
    if report.kind in {"bounce", "delay", "delivery"}:
        assert report.recipients
    message = read_message(octets)
    assert len(message.parts) <= MAX_PARTS
    assert all(len(value) <= MAX_VALUE for _, value in message.fields.pairs)


@given(pieces_of_reports())
def test_line_ends_make_no_difference(octets: bytes) -> None:
    octets = octets.replace(b"\r", b"")
    assert read_report(octets) == read_report(octets.replace(b"\n", b"\r\n"))


_WORDS = """
    kind type id at detail message_id recipients recipient address action status reply
    diagnostic timestamp response code enhanced_code class content headers sender
    feedback_report original_rcpto_to notificationType bounce bouncedRecipients mail
"""
_NAMES = st.sampled_from(_WORDS.split()) | st.text(max_size=5)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ("bounce", "delay", "Bounce", "Feedback", "OOB", "a@example.net", "5.1.1", "550")
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=6),
    max_leaves=20,
)


@given(st.dictionaries(_NAMES, _VALUES, max_size=8))
def test_any_record_is_read_or_refused(value: dict[str, object]) -> None:
    line = json.dumps(value).encode()
    problem = ""
    recipients: tuple[ReportedRecipient, ...] = ()
    try:
        recipients = read_record(line).report.recipients
    except RecordError as error:
        problem = str(error)
    assert problem.isprintable()
    assert all(one.address for one in recipients)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=5).map(
            lambda values: json.dumps(values).encode()
        ),
        st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=5).map(
            lambda values: b"\n".join(json.dumps(value).encode() for value in values)
        ),
    )
)
def test_every_text_of_records_is_read_record_by_record_or_refused(octets: bytes) -> None:
    try:
        lines = read_records(octets, 3)
    except RecordError:
        return
    assert len(lines) <= 3
    assert all((one.record is None) == bool(one.problem) for one in lines)
    assert sorted({one.number for one in lines}) == [one.number for one in lines]


LOCALS = st.from_regex(r"[a-z0-9]([a-z0-9.+-]{0,30}[a-z0-9])?", fullmatch=True)


@given(
    st.lists(st.builds("{}@{}".format, LOCALS, DOMAINS), min_size=1, max_size=20, unique=True)
)
def test_every_recipient_of_a_delivery_status_is_found_in_order(addresses: list[str]) -> None:
    report = read_report(status_report(addresses))
    assert report.kind == "bounce"
    assert [one.address for one in report.recipients] == addresses
    assert all(one.kind is not None and one.kind.is_hard for one in report.recipients)


@given(IDS)
def test_the_compact_form_of_a_message_id_gives_it_back(one: str) -> None:
    assert len(compact_id(one)) == 22
    assert expanded_id(compact_id(one)) == one


@given(IDS, DOMAINS, KEYS, KEYS)
def test_a_return_path_is_valid_with_its_own_key_only(
    one: str, domain: str, key: bytes, other: bytes
) -> None:
    path = tagged_path(return_path(one, domain, key))
    assert path is not None
    assert path.message_id == one
    assert len(str(path).partition("@")[0]) <= 64
    assert is_valid(path, [key])
    assert is_valid(path, [other, key])
    assert is_valid(path, [other]) == (key == other)


@given(IDS, KEYS, st.integers(0, 58), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_changed_return_path_is_not_valid(one: str, key: bytes, at: int, letter: str) -> None:
    made = return_path(one, "example.com", key)
    changed = made[:at] + letter + made[at + 1 :]
    path = tagged_path(changed)
    assert path is None or is_valid(path, [key]) == (changed == made)


@given(st.text(max_size=200))
def test_any_address_may_be_asked_whether_it_is_a_return_path(text: str) -> None:
    assert tagged_path(text) is None
