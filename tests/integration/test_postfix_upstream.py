"""Postfix as the gate's upstream, which wants TLS and AUTH."""

import re
import smtplib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
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
from tests.support.postfix import Postfix, Settings, postfix_upstream
from tests.support.smtpsink import Sink, smtp_sink

UPSTREAM_NAME = "mx.example.com"
PASSWORD = "open sesame"


def chain(
    lab: Lab,
    authority: Authority,
    *,
    wrapper_mode: bool = False,
    wrong: Settings | None = None,
    postfix: Settings | None = None,
) -> tuple[Gate, Postfix, Sink]:
    """Gate, Postfix and sink, in the order of the mail's way; with some settings wrong."""
    certificate = authority.certificate(UPSTREAM_NAME)
    sink = smtp_sink(lab)
    upstream = postfix_upstream(
        lab,
        next_port=sink.port,
        cert_file=certificate.cert_file,
        key_file=certificate.key_file,
        username="gate",
        password=PASSWORD,
        wrapper_mode=wrapper_mode,
        settings=postfix,
    )
    right: dict[str, str | Path | int] = {
        "tls": "required",
        "tls_implicit": wrapper_mode,
        "tls_name": UPSTREAM_NAME,
        "ca_file": authority.ca_file,
        "username": "gate@upstream.example.com",
        "password_file": secret_file(lab, PASSWORD),
    }
    plan = GatePlan(upstream.port, {**right, **(wrong or {})})
    return start_gate(lab, authority, plan), upstream, sink


def secret_file(lab: Lab, secret: str) -> Path:
    file = lab.new_folder("upstream-password") / "password"
    file.write_text(f"{secret}\n")
    file.chmod(0o600)
    return file


def send(gate: Gate, authority: Authority, name: str) -> None:
    with smtplib.SMTP(LOOPBACK, gate.port, timeout=60) as smtp:
        smtp.starttls(context=authority.client_context())
        smtp.login(LOGIN.username, LOGIN.password)
        smtp.sendmail(SENDER, ["bob@example.net"], letter(name, "Hello Bob.\r\n"))


@pytest.mark.parametrize("wrapper_mode", [False, True], ids=["starttls", "implicit-tls"])
def test_postfix_takes_mail_from_the_gate_over_verified_tls_with_auth(
    lab: Lab, wrapper_mode: bool
) -> None:
    dns = dns_server(lab, txt_records())
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority, wrapper_mode=wrapper_mode)

    send(gate, authority, "one")
    send(gate, authority, "two")

    kept = sink.wait_for(2)
    upstream.wait_until_empty()
    assert [message.body for message in kept] == [b"Hello Bob.\r\n"] * 2
    assert all(dns.dkimpy_verdict(message.message) for message in kept)
    assert "TLS connection established" in upstream.log()
    assert "sasl_username=gate@upstream.example.com" in upstream.log()


def test_messages_wait_when_postfix_takes_no_further_connection(lab: Lab) -> None:
    two_at_once: Settings = {
        "smtpd_client_connection_count_limit": 2,
        "smtpd_client_event_limit_exceptions": "",
        "smtpd_recipient_restrictions": "sleep 1, permit_sasl_authenticated, reject",
    }
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority, postfix=two_at_once)
    with ThreadPoolExecutor(8) as threads:
        sending = [threads.submit(send, gate, authority, str(number)) for number in range(8)]
        for one in sending:
            one.result()
    sink.wait_for(8)
    upstream.wait_until_empty()
    assert "Connection concurrency limit exceeded" in upstream.log()


# As they are given, and as they leave Postfix.
ODD_RECIPIENTS = {
    "us..er@example.net": '"us..er"@example.net',
    "user.@example.net": '"user."@example.net',
    "bob@mail_1.example.net": "bob@mail_1.example.net",
    "bob@xn--i-7iq.example.net": "bob@xn--i-7iq.example.net",
    f"{'reply+' + '0123456789' * 8}@example.net": f"{'reply+' + '0123456789' * 8}@example.net",
    "bob@example.net": "bob@example.net",
    "bob@EXAMPLE.net": "",  # the same once more
}


def test_postfix_takes_odd_recipients_from_the_gate_and_the_signature_stays_whole(
    lab: Lab,
) -> None:
    dns = dns_server(lab, txt_records())
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority)
    # A line of 998 octets is the longest that a Postfix sends on unbroken.
    message = letter("odd", f"{'x' * 998}\r\n", more_fields="Cc: undisclosed-recipients:;\r\n")
    with smtplib.SMTP(LOOPBACK, gate.port, timeout=60) as smtp:
        smtp.starttls(context=authority.client_context())
        smtp.login(LOGIN.username, LOGIN.password)
        smtp.mail(SENDER)
        for recipient in (*ODD_RECIPIENTS, "Postmaster"):
            assert smtp.docmd(f"RCPT TO:<{recipient}>")[0] == 250
        code, reply = smtp.data(message)
    assert code == 250, reply
    upstream.wait_until_empty()
    kept = sink.messages()
    arrived = {recipient for one in kept for recipient in one.recipients}
    assert arrived >= {wanted for wanted in ODD_RECIPIENTS.values() if wanted}
    assert sum(len(one.recipients) for one in kept) == 7
    assert all(dns.dkimpy_verdict(one.message) for one in kept)


def test_postfix_takes_large_messages_in_chunks_and_small_ones_as_before(lab: Lab) -> None:
    dns = dns_server(lab, txt_records())
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority)
    line = ".0123456789" * 6 + "\r\n"
    bodies = {"small": line, "large": line * 5_000, "stored": line * 40_000}
    for name, body in bodies.items():
        with smtplib.SMTP(LOOPBACK, gate.port, timeout=60) as smtp:
            smtp.starttls(context=authority.client_context())
            smtp.login(LOGIN.username, LOGIN.password)
            smtp.sendmail(SENDER, ["bob@example.net"], letter(name, body))
    kept = sink.wait_for(3)
    upstream.wait_until_empty()
    assert {message.body.decode() for message in kept} == set(bodies.values())
    assert all(dns.dkimpy_verdict(message.message) for message in kept)
    gate.terminate()
    gate.daemon.wait()

    def commands(verb: str) -> int:
        """The number of those commands, which Postfix logs when a connection ends."""
        return sum(map(int, re.findall(rf"disconnect from .* {verb}=([0-9]+)", upstream.log())))

    eventually(lambda: commands("mail") == 3, "the connections to end")
    # Of 260 KiB each: one and a bit, and ten and a bit.
    assert (commands("data"), commands("bdat")) == (1, 2 + 11)


def test_postfix_gets_the_options_of_dsn_and_passes_them_on(lab: Lab) -> None:
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority)
    with smtplib.SMTP(LOOPBACK, gate.port, timeout=60) as smtp:
        smtp.starttls(context=authority.client_context())
        smtp.login(LOGIN.username, LOGIN.password)
        smtp.sendmail(
            SENDER,
            ["bob@example.net"],
            letter("dsn", "Hello Bob.\r\n"),
            mail_options=["RET=HDRS", "ENVID=QQ+2B314159"],
            rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;Bob@example.org"],
        )
    (kept,) = sink.wait_for(1)
    upstream.wait_until_empty()
    assert {"RET=HDRS", "ENVID=QQ+2B314159"} <= set(kept.options)
    assert {"NOTIFY=SUCCESS", "ORCPT=rfc822;Bob@example.org"} <= set(kept.options)


def must_be_refused_for_now(lab: Lab, wrong: Settings) -> None:
    authority = Authority(lab)
    gate, upstream, sink = chain(lab, authority, wrong=wrong)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(gate, authority, "three")
    assert 400 <= refused.value.smtp_code < 500
    assert upstream.queue() == []
    assert sink.count() == 0


def test_an_upstream_certified_by_a_stranger_gets_no_mail(lab: Lab) -> None:
    must_be_refused_for_now(lab, {"ca_file": Authority(lab).ca_file})


def test_an_upstream_of_another_name_gets_no_mail(lab: Lab) -> None:
    must_be_refused_for_now(lab, {"tls_name": "other.example.com"})


def test_mail_waits_with_the_client_while_the_upstream_refuses_our_password(lab: Lab) -> None:
    must_be_refused_for_now(lab, {"password_file": secret_file(lab, "open barley")})
