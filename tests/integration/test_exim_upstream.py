"""Exim as the gate's upstream: chunks and the options of DSN, read by another server."""

import re
import smtplib

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.dnsserver import dns_server
from tests.support.exim import exim_server
from tests.support.gate import LOGIN, SENDER, GatePlan, letter, start_gate, txt_records


def test_exim_takes_large_messages_in_chunks_and_the_options_of_dsn(lab: Lab) -> None:
    dns_server(lab, txt_records())
    authority, upstream = Authority(lab), exim_server(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port, {"tls": "off"}))
    line = ".0123456789" * 6 + "\r\n"
    bodies = {"small": line, "large": line * 5_000, "stored": line * 40_000}
    for name, body in bodies.items():
        with smtplib.SMTP(LOOPBACK, gate.port, timeout=60) as smtp:
            smtp.starttls(context=authority.client_context())
            smtp.login(LOGIN.username, LOGIN.password)
            smtp.sendmail(
                SENDER,
                ["bob@example.net"],
                letter(name, body),
                mail_options=["RET=HDRS", "ENVID=QQ+2B314159"],
                rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;Bob@example.org"],
            )
    eventually(lambda: len(upstream.messages()) == 3, "three messages in Exim's queue")
    wanted = {body.replace("\r\n", "\n").encode() for body in bodies.values()}
    assert set(upstream.messages()) == wanted
    arrivals = re.findall(r" <= (.*)", upstream.log())
    assert len(arrivals) == 3
    # Exim's mark for CHUNKING is K.
    assert [" K " in one for one in arrivals] == [False, True, True]
    for envelope in upstream.envelopes():
        assert "-dsn_envid QQ+2B314159\n" in envelope
        assert "rfc822;Bob@example.org" in envelope
