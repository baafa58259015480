import base64

import pytest

from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.observation import Absent, Found
from smtpgate.core.proof.ownership import (
    DEFAULT_LABEL,
    RecordLabelError,
    new_token,
    ownership_records,
    parse_label,
    token_seen,
)
from tests.support.rows import rows

TOKEN = new_token(bytes(range(32)))
WANTED = DnsRecord("_smtpgate.example.com", TOKEN)


def test_a_token_is_32_octets_in_base64() -> None:
    assert TOKEN == "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert base64.b64decode(TOKEN) == bytes(range(32))
    with pytest.raises(ValueError, match="32 octets, not 31"):
        new_token(bytes(31))


def test_the_record_stands_at_the_label_or_at_the_domain_itself() -> None:
    assert ownership_records("example.com", TOKEN) == (
        WANTED,
        DnsRecord("example.com", f"smtpgate:{TOKEN}"),
    )
    assert ownership_records("example.com", TOKEN, "_amazonses") == (
        DnsRecord("_amazonses.example.com", TOKEN),
        DnsRecord("example.com", f"amazonses:{TOKEN}"),
    )


def test_a_name_too_long_for_the_dns_is_not_proposed() -> None:
    domain = ".".join(["a" * 60] * 4)
    fits = domain[len("_smtpgate.") - (253 - len(domain)) :]
    assert [record.name for record in ownership_records(fits, TOKEN)] == [
        f"_smtpgate.{fits}",
        fits,
    ]
    assert [record.name for record in ownership_records(f"a{fits}", TOKEN)] == [f"a{fits}"]


@pytest.mark.parametrize("text", ["_smtpgate", "_amazonses", "a", "_a-b_c", "__9", "a" * 63])
def test_labels_with_and_without_underscores_are_taken(text: str) -> None:
    assert parse_label(text.upper()) == text


@rows(
    "text", ["", "_", "__", "-a", "_-a", "a-", "a_", "a.b", "a b", "é", "a" * 64, "a\n", "a:b"]
)
def test_what_cannot_be_a_label_is_refused(text: str) -> None:
    with pytest.raises(RecordLabelError, match="is not a label such as '_smtpgate'"):
        parse_label(text)


def test_the_default_is_a_label() -> None:
    assert parse_label(DEFAULT_LABEL) == DEFAULT_LABEL


@pytest.mark.parametrize(
    "published",
    [
        [TOKEN.encode()],
        [b"v=spf1 -all", TOKEN.encode(), b"other"],
        [f' "{TOKEN}" '.encode()],
        [f"\t{TOKEN}\r\n".encode()],
    ],
)
def test_the_token_is_seen_among_other_records(published: list[bytes]) -> None:
    assert token_seen(WANTED, published) == Found("txt")


@pytest.mark.parametrize(
    ("published", "instead"),
    [
        ([], "no TXT record at _smtpgate.example.com"),
        ([b"v=spf1 -all"], "the TXT record at _smtpgate.example.com is 'v=spf1 -all'"),
        (
            [b"\xff\n", b"b", b"c"],
            r"none of the 3 TXT records at _smtpgate.example.com is right, such as '\xff\n'",
        ),
        (
            [TOKEN.lower().encode()],
            f"the TXT record at _smtpgate.example.com is '{TOKEN.lower()}'",
        ),
        (
            [f"smtpgate:{TOKEN}".encode()],
            f"the TXT record at _smtpgate.example.com is 'smtpgate:{TOKEN}'",
        ),
    ],
)
def test_what_is_there_instead_of_the_token_is_reported(
    published: list[bytes], instead: str
) -> None:
    assert token_seen(WANTED, published) == Absent(instead)
