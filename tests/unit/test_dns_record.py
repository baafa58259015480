import pytest

from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.easy_dkim import hosted_record
from smtpgate.core.proof.soa import Soa, read_soa


def test_a_short_record_is_one_string() -> None:
    assert str(DnsRecord("a.example.com", "v=DKIM1")) == 'a.example.com. IN TXT ( "v=DKIM1" )'


def test_a_long_record_is_cut_into_strings_of_255_octets() -> None:
    record = DnsRecord("a.example.com", "x" * 511)
    assert [len(piece) for piece in record.strings] == [255, 255, 1]
    assert "".join(record.strings) == record.value
    assert DnsRecord("a.example.com", "x" * 255).strings == ("x" * 255,)


def test_an_empty_record_is_one_empty_string() -> None:
    assert str(DnsRecord("a.example.com", "")) == 'a.example.com. IN TXT ( "" )'


def test_what_a_zone_file_would_read_otherwise_is_escaped() -> None:
    assert str(DnsRecord("a.example.com", 'a"b\\c;d')) == (
        r'a.example.com. IN TXT ( "a\"b\\c;d" )'
    )


@pytest.mark.parametrize(
    ("text", "soa"),
    [
        ("", None),
        ("ns.example.com admin.example.com", None),
        ("ns.example.com admin.example.com 7x", None),
        (
            "ns.example.com admin.example.com 7",
            Soa("ns.example.com", "admin.example.com", 7),
        ),
    ],
)
def test_a_start_of_authority_is_read_as_it_was_written(text: str, soa: Soa | None) -> None:
    assert read_soa(text) == soa
    assert soa is None or str(soa) == text


def test_the_record_of_a_token_is_published_in_the_zone_of_the_operator() -> None:
    assert hosted_record("abc", "dkim.example.net", "v=DKIM1; p=x") == DnsRecord(
        "abc.dkim.example.net", "v=DKIM1; p=x"
    )
