"""The daemons by themselves: when these fail, the harness is to blame, not the gate."""

import smtplib

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab
from tests.support.databases import PostgresDatabases
from tests.support.dnsserver import dns_server
from tests.support.postfix import postfix_client, postfix_upstream
from tests.support.postgres import PostgresServer
from tests.support.postgres_pool import PostgresPool
from tests.support.recorder import recorder
from tests.support.relayhost import Relayhost
from tests.support.smtpsink import smtp_sink

ACCOUNT = "(id, name, created_at) VALUES ('111111111111', 'Acme', now())"
MESSAGE = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: hello\r\n\r\nOne.\r\n..two\r\n"


def test_the_sink_keeps_what_it_was_sent(lab: Lab) -> None:
    sink = smtp_sink(lab)
    with smtplib.SMTP(LOOPBACK, sink.port) as client:
        client.sendmail("a@example.com", ["b@example.net", "c@example.net"], MESSAGE)
    (kept,) = sink.messages()
    assert kept.mail_from == "a@example.com"
    assert kept.recipients == ("b@example.net", "c@example.net")
    assert kept.message == MESSAGE


def test_the_recorder_keeps_every_octet(lab: Lab) -> None:
    upstream = recorder(lab)
    message = "Subject: größer\r\n\r\nüber\r\n.\r\n".encode()
    with smtplib.SMTP(LOOPBACK, upstream.port) as client:
        client.ehlo()
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        client.sendmail("ä@example.com", ["ö@example.net"], message, options)
    (kept,) = upstream.messages
    assert (kept.mail_from, kept.recipients) == ("ä@example.com", ("ö@example.net",))
    assert kept.message == message


def test_a_long_txt_record_comes_back_whole(lab: Lab) -> None:
    name, text = "selector._domainkey.example.com", "v=DKIM1; k=rsa; p=" + "A" * 700
    assert dns_server(lab, {name: text}).txt(name) == text.encode()


def test_postfix_relays_to_postfix_over_verified_tls_with_auth(lab: Lab) -> None:
    authority = Authority(lab)
    certificate = authority.certificate("mx.example.com")
    sink = smtp_sink(lab)
    upstream = postfix_upstream(
        lab,
        next_port=sink.port,
        cert_file=certificate.cert_file,
        key_file=certificate.key_file,
        username="relay",
        password="open sesame",
    )
    client = postfix_client(
        lab,
        Relayhost(upstream.port, "relay", "open sesame", authority.ca_file, "mx.example.com"),
    )
    client.inject(MESSAGE, "a@example.com", ["b@example.net"])
    (kept,) = sink.wait_for(1)
    client.wait_until_empty()
    upstream.wait_until_empty()
    assert kept.message.endswith(b"\r\n\r\nOne.\r\n..two\r\n")
    assert "Verified TLS connection established" in client.log()
    assert "sasl_method=" in upstream.log()


def test_a_database_is_used_again_as_it_was_made_and_not_after_a_change_of_its_tables(
    postgres: PostgresServer, postgres_pool: PostgresPool
) -> None:
    def name_after(*statements: str) -> str:
        with PostgresDatabases.of(postgres_pool) as databases:
            name = databases.fresh().rpartition("/")[2]
            known = postgres.sql(name, "TABLE directory_version; TABLE master_keys")
            assert known == first, "as a new one has them"
            assert postgres.sql(name, "TABLE accounts") == ""
            for statement in statements:
                postgres.sql(name, statement)
        return name

    first = postgres.sql("directory_template", "TABLE directory_version; TABLE master_keys")
    again = name_after("DELETE FROM directory_version", f"INSERT INTO accounts {ACCOUNT}")
    assert name_after() == again
    for change in (
        "ALTER TABLE accounts ALTER name SET DEFAULT 'Acme'",
        "DROP TABLE accounts CASCADE",
        f"ALTER DATABASE {again} SET default_transaction_isolation = 'serializable'",
    ):
        used = name_after(change.replace(again, name_after()))
        assert name_after() != used
