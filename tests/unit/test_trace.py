from datetime import UTC, datetime, timedelta, timezone

from msgspec.structs import replace

from smtpgate.core.identity import DkimKey
from smtpgate.core.message.envelope import Client, SmtpFacts
from smtpgate.core.message.headers import MAX_LINE_OCTETS, Field, first_long_line, split_message
from smtpgate.core.message.trace import complete, received_field
from smtpgate.core.signing import signature_fields
from tests.support.dkim import rsa_key
from tests.support.rows import rows

CLIENT = Client(
    address="192.0.2.7",
    listener="submission",
    protocol="ESMTPSA",
    smtp=SmtpFacts("client.example.net"),
)
NOW = datetime(2026, 6, 1, 10, 0, 5, tzinfo=timezone(timedelta(hours=2)))


def received(
    client: Client,
    *,
    message_id: str = "0100-x-000000",
    now: datetime = NOW,
    mask_client: bool = False,
) -> bytes:
    field = received_field(
        client,
        hostname="gate.example.com",
        message_id=message_id,
        now=now,
        mask_client=mask_client,
    )
    assert field.name == b"received"
    return field.raw


def test_the_received_field_says_from_where_by_which_host_how_and_when() -> None:
    assert received(CLIENT) == (
        b"Received: from client.example.net ([192.0.2.7]) by gate.example.com\r\n"
        b"\twith ESMTPSA id 0100-x-000000; Mon, 01 Jun 2026 10:00:05 +0200\r\n"
    )


def test_each_message_of_a_client_is_folded_by_its_own_lengths() -> None:
    first = b"Received: from client.example.net ([192.0.2.7]) by gate.example.com\r\n"
    for message_id, folded in (
        ("0100-x", b"\twith ESMTPSA id 0100-x; Mon, 01 Jun 2026 10:00:05 +0200\r\n"),
        (
            "0100-" + "x" * 30,
            b"\twith ESMTPSA id 0100-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx;\r\n"
            b"\tMon, 01 Jun 2026 10:00:05 +0200\r\n",
        ),
        ("0100-y", b"\twith ESMTPSA id 0100-y; Mon, 01 Jun 2026 10:00:05 +0200\r\n"),
    ):
        assert received(CLIENT, message_id=message_id) == first + folded


def test_an_ipv6_client_is_written_as_an_address_literal() -> None:
    raw = received(replace(CLIENT, address="2001:db8::7"))
    assert b"([IPv6:2001:db8::7])" in raw
    raw = received(replace(CLIENT, address="fe80::1%eth0"))
    assert b"([IPv6:fe80::1])" in raw


def test_a_masked_client_is_named_by_nothing() -> None:
    raw = received(CLIENT, mask_client=True)
    assert raw.startswith(b"Received: from localhost by gate.example.com with ESMTPSA id ")
    assert b"192.0.2.7" not in raw
    assert b"client.example.net" not in raw


def test_the_cipher_is_named_when_its_name_is_the_registered_one() -> None:
    tls_13 = replace(CLIENT, smtp=SmtpFacts("", "TLSv1.3", "TLS_AES_128_GCM_SHA256"))
    assert b"id 0100-x-000000 tls TLS_AES_128_GCM_SHA256;" in received(tls_13).replace(
        b"\r\n\t", b" "
    )
    tls_12 = replace(CLIENT, smtp=SmtpFacts("", "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"))
    assert b"tls" not in received(tls_12)


@rows(
    "helo",
    ["a\r\nBcc: x@example.com", "a\tb", "a(b", "a;b", 'a"b', "a<b>", "ä.example", "a\0b", ""],
)
def test_what_the_client_called_itself_cannot_break_out(helo: str) -> None:
    raw = received(replace(CLIENT, smtp=SmtpFacts(helo)))
    block = split_message(raw).block
    assert [field.name for field in block.fields] == [b"received"]
    words = block.fields[0].value.split(b" by ")[0].split()
    assert len(words) == 3
    assert words[2] == b"([192.0.2.7])"


def test_a_long_name_of_the_client_is_cut_and_lines_stay_short() -> None:
    lines = received(replace(CLIENT, smtp=SmtpFacts("a" * 5000))).split(b"\r\n")
    assert max(map(len, lines)) <= len(b"\tfrom ") + 255
    assert [line for line in lines if len(line) > 78] == [b"\tfrom " + b"a" * 255]


def test_a_moment_in_utc_is_written_with_its_zone() -> None:
    raw = received(CLIENT, now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert raw.endswith(b"Fri, 02 Jan 2026 03:04:05 +0000\r\n")


def test_date_and_message_id_are_added_only_where_they_are_missing() -> None:
    block = split_message(b"From: a@example.com\r\nDATE : today\r\n\r\n").block
    full = complete(block, message_id="0100-x", hostname="gate.example.com", now=NOW)
    added = Field(b"message-id", b"Message-ID: <0100-x@gate.example.com>\r\n")
    assert full.fields == (*block.fields, added)
    again = complete(full, message_id="other", hostname="other.example.com", now=NOW)
    assert again == full


def test_blind_copies_and_return_path_are_removed() -> None:
    block = split_message(
        b"Return-Path: <a@example.com>\r\nFrom: a@example.com\r\nbcc: b@example.com,\r\n"
        b" c@example.com\r\nBCC : d@example.com\r\nResent-Bcc: e@example.com\r\n"
        b"Date: x\r\nMessage-ID: y\r\n\r\n"
    ).block
    full = complete(block, message_id="0100-x", hostname="gate.example.com", now=NOW)
    assert [field.name for field in full.fields] == [b"from", b"date", b"message-id"]


def test_no_field_of_the_gates_own_has_a_long_line() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])  # 253 octets: no domain or selector is longer
    smtp = SmtpFacts("x" * 1000, "TLSv1.3", "TLS_" + "A" * 100)
    client = Client(address=name, listener="submission", protocol="ESMTPSA", smtp=smtp)
    received = received_field(
        client, hostname=name, message_id="0" * 60, now=NOW, mask_client=False
    )
    block = complete(
        split_message(b"From: a@example.com\r\n" + b"To: b\r\nResent-To: c\r\n" * 400).block,
        message_id="0" * 60,
        hostname=name,
        now=NOW,
    )
    key = DkimKey(name, rsa_key().private_key)
    (signature,) = signature_fields(block, b"", domain=name, keys=[key], now=NOW)
    for field in (received, signature, *block.fields):
        assert first_long_line(field.raw) is None, field.raw
    assert MAX_LINE_OCTETS == 998
