"""Properties of DKIM records for all octets."""

import base64
from typing import Final

from hypothesis import assume, given
from hypothesis import strategies as st

from smtpgate.core.proof.dkim_record import (
    DkimRecord,
    DkimRecordError,
    compare,
    parse_dkim_record,
)
from smtpgate.core.proof.dns_record import DnsRecord

WANTED: Final = "v=DKIM1; k=rsa; p=AAECAwQF"

white = st.text(" \t", max_size=3)
keys = st.binary(min_size=1, max_size=300)
# Texts that look like a record, so that more than the first step of the parser is tried.
almost = st.lists(
    st.sampled_from(
        [b"v=DKIM1", b"p=AAEC", b"p=", b"k=rsa", b"h=sha256", b"t=y:s", b"=", b" ", b";", b"; ",
         b"\xff", b"p", b"AA==", b":", b"\r\n "]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip
anything = st.binary(max_size=200) | almost


@given(anything)
def test_any_octets_are_a_record_or_an_error(octets: bytes) -> None:
    problem = ""
    try:
        record = parse_dkim_record(octets)
    except DkimRecordError as error:
        problem = str(error)
    else:
        assert isinstance(record, DkimRecord)
        assert record.is_revoked == (not record.public_key)
    assert problem.isprintable()
    assert len(problem) < 200


@given(st.lists(anything, max_size=3))
def test_any_records_lead_to_a_verdict_that_can_be_printed(published: list[bytes]) -> None:
    check = compare(published, WANTED)
    assert check.text.isprintable()
    assert len(check.text) < 300
    assert (check.kind == "absent") == (not published)
    assert (check.kind == "several") == (len(published) > 1)


@given(keys, st.lists(white, min_size=8, max_size=8), st.booleans())
def test_a_record_is_read_back_however_it_is_spaced(
    key: bytes, spaces: list[str], has_version: bool
) -> None:
    text = base64.b64encode(key).decode()
    half = len(text) // 2
    a, b, c, d, e, f, g, h = spaces
    version = f"{a}v{b}={c}DKIM1{d};" if has_version else ""
    record = f"{version}{e}p{f}={g}{text[:half]}{h}{text[half:]};"
    assert parse_dkim_record(record.encode()).public_key == key
    assert compare([record.encode()], f"v=DKIM1; k=rsa; p={text}").kind == "matches"


@given(keys, keys)
def test_another_key_never_matches(one: bytes, other: bytes) -> None:
    assume(one != other)
    published, wanted = (f"p={base64.b64encode(key).decode()}" for key in (one, other))
    assert compare([published.encode()], wanted).kind == "differs"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=600))
def test_the_strings_of_a_zone_file_hold_the_record_and_no_more(value: str) -> None:
    record = DnsRecord("a.example.com", value)
    assert "".join(record.strings) == value
    assert all(len(piece) <= 255 for piece in record.strings)
