from typing import Any

import pytest

from smtpgate.core.message import headers
from smtpgate.core.message.headers import (
    Field,
    HeaderBlock,
    HeaderError,
    duplicate_field,
    line_end_problem,
    normalize_line_ends,
    split_message,
)
from smtpgate.core.message.reading import read_message
from smtpgate.core.reply import Reject
from tests.support.cases import load_cases
from tests.support.rows import rows

REFUSED = load_cases("headers/10-refused.toml")
DUPLICATES = load_cases("headers/20-duplicates.toml")
LINE_ENDS = load_cases("headers/30-line-ends.toml")


def block_of(*lines: str) -> HeaderBlock:
    return split_message("\r\n".join([*lines, "", ""]).encode()).block


def test_a_message_is_cut_at_its_first_empty_line() -> None:
    message = split_message(
        b"From : a@example.com\r\nsubject:\r\n long\r\n\tsubject  \r\n\r\nBody: x\r\n\r\nmore"
    )
    assert [field.name for field in message.block.fields] == [b"from", b"subject"]
    assert message.block.raw_parts == (
        b"From: a@example.com\r\n",
        b"subject:\r\n long\r\n\tsubject  \r\n",
    )
    assert [field.value for field in message.block.fields] == [
        b"a@example.com",
        b"long\tsubject",
    ]
    assert bytes(message.body) == b"Body: x\r\n\r\nmore"


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n"])
def test_a_message_may_end_with_its_header_block(end: bytes) -> None:
    message = split_message(b"Subject: x\r\nFrom: a@example.com" + end)
    assert message.block.raw_parts == (b"Subject: x\r\n", b"From: a@example.com\r\n")
    assert bytes(message.body) == b""


def test_a_line_of_white_space_continues_a_field_and_ends_no_block() -> None:
    message = split_message(b"Subject: x\r\n \r\nFrom: a@example.com\r\n\r\n")
    assert [field.name for field in message.block.fields] == [b"subject", b"from"]
    assert message.block.fields[0].value == b"x"


def test_eight_bit_octets_in_a_value_pass_as_they_are() -> None:
    block = split_message(b"Subject: Fr\xfchling\r\n\r\n").block
    assert block.raw_parts == (b"Subject: Fr\xfchling\r\n",)


@rows("case", REFUSED, ids=lambda case: case["note"])
def test_a_block_that_is_not_made_of_fields_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(HeaderError) as caught:
        split_message(case["message"].replace("\n", "\r\n").encode())
    assert case["says"] in str(caught.value)


@pytest.mark.parametrize("octets", [b"A: b\nC: d\r\n\r\n", b"A: b\rC: d\r\n\r\n", b"A: b\r"])
def test_a_block_with_other_line_ends_is_refused(octets: bytes) -> None:
    with pytest.raises(HeaderError, match="bare CR or a bare LF"):
        split_message(octets)


@rows("octet", sorted({*range(32)} - {9, 10, 13}))
@rows("place", ["name", "gap", "value", "fold"])
def test_a_control_character_anywhere_in_the_block_is_refused(octet: int, place: str) -> None:
    control = bytes([octet])
    lines = {
        "name": b"Sub%bject: x\r\n",
        "gap": b"Subject%b: x\r\n",
        "value": b"Subject: x%by\r\n",
        "fold": b"Subject: x\r\n %b\r\n",
    }
    with pytest.raises(
        HeaderError, match=rf"holds a control character: 0x{octet:02x}"
    ) as error:
        split_message(b"A: b\r\n" + lines[place] % control + b"\r\nbody")
    assert f"line {3 if place == 'fold' else 2} of" in str(error.value)


def test_a_tab_is_white_space_and_no_control() -> None:
    block = split_message(b"Subject:\tx\r\n\ty\t\r\n\r\n").block
    assert block.raw_parts == (b"Subject:\tx\r\n\ty\t\r\n",)


@rows("octet", range(256))
def test_a_field_name_has_letters_digits_and_three_marks(octet: int) -> None:
    """A program that skips another character would read ``>From`` as From."""
    allowed = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
    mark = bytes([octet])
    for name in (mark + b"From", b"From" + mark, b"Fr" + mark + b"om"):
        message = b"X: y\r\n" + name + b": a@example.com\r\n\r\n"
        if octet in allowed:
            assert split_message(message).block.fields[1].name == name.lower()
        elif (mark in b" \t" and name.endswith(mark)) or mark == b":":
            if not name.startswith(b":"):
                assert len(split_message(message).block.fields) == 2
        elif mark in b" \t" and name.startswith(mark):
            assert len(split_message(message).block.fields) == 1  # it continues X
        else:
            with pytest.raises(HeaderError):
                split_message(message)


@pytest.mark.parametrize("gap", [b" ", b"\t", b" \t  "])
def test_white_space_before_the_colon_is_removed_from_every_field(gap: bytes) -> None:
    names = (b"From", b"X-Any_Name.2", b"subject")
    block = split_message(b"".join(name + gap + b": \t a :b\r\n" for name in names)).block
    assert block.raw_parts == tuple(name + b": \t a :b\r\n" for name in names)


def test_the_body_may_hold_anything() -> None:
    assert bytes(split_message(b"A: b\r\n\r\n\0\r\r\n\n").body) == b"\0\r\r\n\n"


def test_the_header_block_has_a_largest_size() -> None:
    exact = b"A: " + b"b" * 7
    for message in (exact + b"\r\n\r\nbody", exact + b"\r\n", exact):
        assert split_message(message, max_block_octets=10).block.raw_parts == (exact + b"\r\n",)
    for message in (b"AA: " + b"b" * 7, exact + b"b\r\n", exact + b"b\r\n\r\n", exact * 9):
        with pytest.raises(HeaderError, match="larger than 10 octets"):
            split_message(message, max_block_octets=10)


def test_a_thousand_fields_are_the_most() -> None:
    assert len(split_message(b"A: b\r\n" * 1000).block.fields) == 1000
    with pytest.raises(HeaderError, match="more than 1000 header fields"):
        split_message(b"A: b\r\n" * 1001)


def test_a_message_that_passed_more_than_fifty_servers_goes_in_circles() -> None:
    hop, rest = b"Received: from a by b\r\n", b"From: alice@example.com\r\n\r\n"
    assert len(read_message(hop * 50 + rest, smtputf8=False).block.fields) == 51
    with pytest.raises(Reject, match="51 Received fields"):
        read_message(hop * 25 + b"RECEIVED : from a by b\r\n" * 26 + rest, smtputf8=False)
    with pytest.raises(Reject, match="may have 2"):
        read_message(hop * 3 + rest, smtputf8=False, max_received=2)


def test_a_header_line_of_998_octets_is_the_longest() -> None:
    longest = b"Subject: " + b"x" * 989
    folded = longest + b"\r\n " + b"y" * 997
    assert split_message(longest + b"\r\n").block.raw_parts == (longest + b"\r\n",)
    assert split_message(folded + b"\r\n").block.raw_parts == (folded + b"\r\n",)
    for message in (longest + b"x\r\n", folded + b"y\r\n"):
        with pytest.raises(HeaderError, match="line of field 'Subject' is longer than 998"):
            split_message(message)


@pytest.mark.parametrize("case", DUPLICATES, ids=lambda case: case["note"])
def test_fields_that_stand_twice_are_found(case: dict[str, Any]) -> None:
    assert (duplicate_field(block_of(*case["fields"])) or b"").decode() == case["want"]


@rows("case", LINE_ENDS, ids=lambda case: case["note"])
def test_line_ends_other_than_crlf_are_found(case: dict[str, Any]) -> None:
    octets = case["octets"].encode()
    problem = line_end_problem(octets)
    if case["want"]:
        assert problem is not None
        assert case["want"] in problem
    else:
        assert problem is None
    assert normalize_line_ends(octets) == case["normalized"].encode()


@pytest.mark.parametrize("shift", range(6))
def test_a_line_end_between_two_slices_is_whole(
    monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    monkeypatch.setattr(headers, "_SLICE", 4)
    clean = b"x" * shift + b"\r\n\r\nabc\r\n\r\n"
    assert line_end_problem(clean) is None
    for place in range(len(clean) + 1):
        for wrong in (b"\r", b"\n"):
            broken = clean[:place] + wrong + clean[place:]
            assert line_end_problem(broken) is not None, broken


def test_fields_are_found_taken_out_and_put_in_front() -> None:
    block = block_of("A: 1", "B: 2", "a : 3", "C: 4")
    assert [field.value for field in block.all(b"a")] == [b"1", b"3"]
    first = block.first(b"a")
    assert first is not None
    assert first.value == b"1"
    assert block.first(b"d") is None
    assert block.first(b"b") == block.fields[1]
    assert block.all(b"d") == ()
    assert block.has_any([b"d", b"b"])
    assert not block.has_any([b"d"])
    assert block.has_names_twice
    assert not block.without([b"a"]).has_names_twice
    assert block.without([b"a", b"c"]).raw_parts == (b"B: 2\r\n",)
    assert block.without([b"d"]) is block
    added = Field(b"d", b"D: 0\r\n")
    assert block.with_first(added, added).fields == (added, added, *block.fields)
