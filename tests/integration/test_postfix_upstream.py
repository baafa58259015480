"""Postfix as the gate's upstream, which wants TLS and AUTH."""

import smtplib

import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab
from tests.support.dnsserver import dns_server
from tests.support.gate import (
    LOGIN,
    SENDER,
    Gate,
    GatePlan,
    letter,
    start_gate,
    txt_records,
)
from tests.support.postfix import Postfix, postfix_upstream
from tests.support.smtpsink import Sink, smtp_sink

UPSTREAM_NAME = "mx.example.com"


def chain(
    lab: Lab, authority: Authority, *, password: str = "open sesame", trusts: bool = True
) -> tuple[Gate, Postfix, Sink]:
    """Gate, Postfix and sink, in the order of the mail's way."""
    certificate = authority.certificate(UPSTREAM_NAME)
    sink = smtp_sink(lab)
    upstream = postfix_upstream(
        lab,
        next_port=sink.port,
        cert_file=certificate.cert_file,
        key_file=certificate.key_file,
        username="gate",
        password="open sesame",
    )
    password_file = lab.new_folder("upstream-password") / "password"
    password_file.write_text(f"{password}\n")
    password_file.chmod(0o600)
    plan = GatePlan(
        upstream.port,
        {
            "tls": "required",
            "tls_name": UPSTREAM_NAME,
            "ca_file": (authority if trusts else Authority(lab)).ca_file,
            "username": "gate@upstream.example.com",
            "password_file": password_file,
        },
    )
    return start_gate(lab, authority, plan), upstream, sink


def send(gate: Gate, authority: Authority, name: str) -> None:
    with smtplib.SMTP(LOOPBACK, gate.port, timeout=60) as smtp:
        smtp.starttls(context=authority.client_context())
        smtp.login(LOGIN.username, LOGIN.password)
        smtp.sendmail(SENDER, ["bob@example.net"], letter(name, "Hello Bob.\r\n"))


def test_postfix_takes_mail_from_the_gate_over_verified_tls_with_auth(lab: Lab) -> None:
    dns = dns_server(lab, txt_records())
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority)

    send(gate, authority, "one")
    send(gate, authority, "two")

    kept = sink.wait_for(2)
    upstream.wait_until_empty()
    assert [message.body for message in kept] == [b"Hello Bob.\r\n"] * 2
    assert all(dns.dkimpy_verdict(message.message) for message in kept)
    assert "TLS connection established" in upstream.log()
    assert "sasl_username=gate@upstream.example.com" in upstream.log()


@pytest.mark.parametrize(
    ("password", "trusts"),
    [("open sesame", False), ("open barley", True)],
    ids=["unknown-authority", "wrong-password"],
)
def test_an_upstream_that_cannot_be_trusted_or_refuses_our_login_gets_no_mail(
    lab: Lab, password: str, trusts: bool
) -> None:
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority, password=password, trusts=trusts)

    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(gate, authority, "three")

    assert 400 <= refused.value.smtp_code < 500
    assert upstream.queue() == []
    assert sink.count() == 0
