"""Independent verifiers, asking a real DNS server, accept our signatures."""

import smtplib

import pytest

from smtpgate.core.signing import OVERSIGNED
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab
from tests.support.dnsserver import DnsServer, dns_server
from tests.support.gate import LOGIN, SENDER, GatePlan, letter, start_gate, txt_records
from tests.support.recorder import recorder
from tests.support.world import DOMAIN_NAME

# Traps of canonicalisation (RFC 6376 §3.4).
BODIES = {
    "plain": "Hello Bob.\r\n",
    "empty": "",
    "trailing-empty-lines": "Hello Bob.\r\n\r\n\r\n",
    "white-space": "Hello \t Bob. \t\r\n\t\r\n  two  spaces\r\n",
    "dots": ".\r\n..\r\n.hidden\r\n",
    "eight-bit": "Grüße aus Köln\r\n",
    "no-final-line-end": "Hello Bob.",
}


@pytest.fixture(scope="module")
def signed(shared_lab: Lab) -> tuple[dict[str, bytes], DnsServer]:
    """Every body sent through the gate once, as the upstream got it."""
    lab = shared_lab
    dns, authority, upstream = dns_server(lab, txt_records()), Authority(lab), recorder(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port))
    folded = "X-Folded: one\r\n\t two \r\n   three\r\nMIME-Version: 1.0\r\n"
    with smtplib.SMTP(LOOPBACK, gate.port, timeout=30) as smtp:
        smtp.starttls(context=authority.client_context())
        smtp.login(LOGIN.username, LOGIN.password)
        for name, body in BODIES.items():
            smtp.sendmail(
                SENDER,
                ["bob@example.net"],
                letter(name, body, more_fields=folded),
                ["BODY=8BITMIME"],
            )
    return dict(zip(BODIES, (kept.message for kept in upstream.messages), strict=True)), dns


@pytest.mark.parametrize("name", BODIES)
def test_dkimpy_and_mail_dkim_accept_the_signature(
    signed: tuple[dict[str, bytes], DnsServer], name: str
) -> None:
    messages, dns = signed
    assert dns.dkimpy_verdict(messages[name])
    verdicts = dns.mail_dkim_verdicts(messages[name])
    # Debian 12's Mail::DKIM knows no Ed25519; RFC 8463 §5 wants such signatures ignored.
    assert f"{DOMAIN_NAME} rsa2026 pass" in verdicts


def test_a_changed_octet_breaks_the_signature(
    signed: tuple[dict[str, bytes], DnsServer],
) -> None:
    messages, dns = signed
    changed = messages["plain"].replace(b"Hello", b"Hallo")
    assert not dns.dkimpy_verdict(changed)
    assert f"{DOMAIN_NAME} rsa2026 pass" not in dns.mail_dkim_verdicts(changed)


@pytest.mark.parametrize("name", OVERSIGNED)
def test_a_field_put_on_top_breaks_the_signature(
    signed: tuple[dict[str, bytes], DnsServer], name: bytes
) -> None:
    messages, dns = signed
    changed = name.title() + b": x\r\n" + messages["plain"]
    assert not dns.dkimpy_verdict(changed)
    assert f"{DOMAIN_NAME} rsa2026 pass" not in dns.mail_dkim_verdicts(changed)
