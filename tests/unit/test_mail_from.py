"""MAIL FROM domains: which an identity can have, its records, and what the DNS says."""

import re

import pytest

from smtpgate.core.proof.mail_from import (
    MailFromError,
    Mx,
    mail_from_records,
    mx_seen,
    parse_mail_from,
    spf_problem,
)
from smtpgate.core.proof.observation import Absent, Found
from tests.support.rows import rows

HOST = "bounces.gate.example.com"


@rows(
    "text, identity, domain",
    [
        ("bounce.example.com", "example.com", "bounce.example.com"),
        ("Bounce.EXAMPLE.com", "example.com", "bounce.example.com"),
        ("a.b.example.com", "example.com", "a.b.example.com"),
        ("bounce.example.com", "news@example.com", "bounce.example.com"),
        ("bücher.example.com", "example.com", "xn--bcher-kva.example.com"),
    ],
)
def test_it_is_a_subdomain_of_the_identity_s_domain(
    text: str, identity: str, domain: str
) -> None:
    assert parse_mail_from(text, identity) == domain


@rows(
    "text, identity, problem",
    [
        ("example.com", "example.com", "is no subdomain of example.com"),
        ("bounce.example.net", "example.com", "is no subdomain of example.com"),
        ("badexample.com", "example.com", "is no subdomain of example.com"),
        ("bounce.example.com", "news@mail.example.com", "is no subdomain of mail.example.com"),
        ("[192.0.2.1]", "example.com", "is no subdomain of example.com"),
        (".example.com", "example.com", "is no domain"),
        ("a b.example.com", "example.com", "is no domain"),
        ("b+x@bounce.example.com", "example.com", "is no domain"),
        ("", "example.com", "is no domain"),
    ],
)
def test_no_other_domain_can_be_one(text: str, identity: str, problem: str) -> None:
    with pytest.raises(MailFromError, match=re.escape(problem)):
        parse_mail_from(text, identity)


def test_its_records_are_lines_for_a_zone_file() -> None:
    mx, spf = mail_from_records("bounce.example.com", HOST, "a:out.example.net")
    assert str(mx) == "bounce.example.com. IN MX 10 bounces.gate.example.com."
    assert str(spf) == 'bounce.example.com. IN TXT ( "v=spf1 a:out.example.net ~all" )'


@rows(
    "records, wanted",
    [
        ([Mx(10, HOST)], Found("mx")),
        ([Mx(0, HOST)], Found("mx")),
        ([], Absent(f"there is no MX record, and {HOST} is expected")),
        ([Mx(0, "")], Absent(f"MX is '', and {HOST} alone is expected")),
        (
            [Mx(5, "mx.example.net"), Mx(10, HOST)],
            Absent(f"MX is 'mx.example.net', '{HOST}', and {HOST} alone is expected"),
        ),
        (
            [Mx(10, "a\x1b[2J.example")],
            Absent(f"MX is 'a\\x1b[2J.example', and {HOST} alone is expected"),
        ),
    ],
)
def test_one_mx_record_names_the_listener(records: list[Mx], wanted: Found | Absent) -> None:
    assert mx_seen(HOST, records) == wanted


@rows(
    "records, problem",
    [
        ([b"v=spf1 mx ~all"], ""),
        ([b"V=SPF1 -all", b"other"], ""),
        ([b"v=spf1"], ""),
        ([b"v=spf10 mx", b"spf1 v=spf1"], "there is no SPF record"),
        ([], "there is no SPF record"),
        ([b"v=spf1 mx", b"v=spf1 a"], "there are several SPF records"),
    ],
)
def test_there_is_one_spf_record(records: list[bytes], problem: str) -> None:
    assert spf_problem(records) == problem
