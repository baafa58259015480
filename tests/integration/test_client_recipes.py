"""The recipes of the guide to mail servers as clients: each is run as it stands there.

Splitting a message, and the servers' own bounces, are in ``test_recipients_clients.py``.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

import pytest

from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually
from tests.support.exim import exim_client
from tests.support.gate import (
    BOUNCES_TO,
    HOSTNAME,
    LOGIN,
    Gate,
    GatePlan,
    letter,
    start_gate,
)
from tests.support.nullmailer import nullmailer_client
from tests.support.opensmtpd import opensmtpd_client
from tests.support.passage import passage
from tests.support.postfix import postfix_client
from tests.support.recorder import recorder
from tests.support.relayhost import Relayhost
from tests.support.small_clients import dma_client, msmtp_client
from tests.support.smtpsink import smtp_sink
from tests.support.upstream_thread import UpstreamThread, upstream_thread
from tests.support.world import DOMAIN_NAME


class Sender(Protocol):
    """The part that a test has of each of them."""

    def inject(self, message: bytes, sender: str, recipients: Sequence[str]) -> None: ...
    def log(self) -> str: ...


CLIENTS: Final[dict[str, Callable[[Lab, Relayhost], Sender]]] = {
    "postfix": postfix_client,
    "exim": exim_client,
    "opensmtpd": opensmtpd_client,
    "nullmailer": nullmailer_client,
    "msmtp": msmtp_client,
    "dma": dma_client,
}
# Each one's reason to have nothing to do with a certificate that it does not trust.
UNTRUSTED: Final = {
    "postfix": "Server certificate not verified",
    "exim": "certificate verification failed|certificate invalid",
    "opensmtpd": "SSL certificate check failed",
    "nullmailer": "certificate is untrusted",
    "msmtp": "TLS certificate verification failed",
    "dma": "",  # its reason is in the system's log
}
EIGHT_BIT: Final = "Grüße aus Köln\r\n.\r\n..two dots\r\n\tTab  und Raum \r\n\r\n\r\nEnde\r\n"
_LINE: Final = "0123456789 abcdefghijklmnopqrstuvwxyz .,;:- ABCDEFGHIJKLMNOPQRS\r\n"
LARGE: Final = EIGHT_BIT + _LINE * (5 * 1024 * 1024 // len(_LINE))
OFFERS: Final = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 67108864")


def relay_of(
    plan: GatePlan, authority: Authority, trusted: Authority | None = None
) -> Relayhost:
    trusted = trusted or authority
    return Relayhost(
        plan.submission_port,
        LOGIN.username,
        LOGIN.password,
        trusted.ca_file,
        HOSTNAME,
        cert_file=trusted.certificate(HOSTNAME).cert_file,
    )


def open_gate(lab: Lab, upstream_port: int) -> tuple[Gate, Relayhost]:
    authority, plan = Authority(lab), GatePlan(upstream_port, has_movable_clock=True)
    gate = start_gate(lab, authority, plan)
    return gate, relay_of(plan, authority)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_large_message_in_eight_bits_arrives_as_it_was_written(lab: Lab, client: str) -> None:
    upstream = upstream_thread(lab, *OFFERS)
    _, relay = open_gate(lab, upstream.server.port)
    sender = CLIENTS[client](lab, relay)
    sender.inject(letter("large", LARGE), BOUNCES_TO, ["bob@example.net"])

    (message,) = upstream.wait_for(1)
    assert message.partition(b"\r\n\r\n")[2] == LARGE.encode()
    assert b"x-ses-" not in message.partition(b"\r\n\r\n")[0].lower()
    used_chunks = client == "exim"
    assert (" K " in sender.log()) == used_chunks, sender.log()
    assert re.search(rb"\swith ESMTPSA\s", message)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_sends_neither_password_nor_mail_to_a_gate_that_it_does_not_trust(
    lab: Lab, client: str
) -> None:
    authority, other = Authority(lab), Authority(lab)
    upstream = recorder(lab)
    plan = GatePlan(upstream.port)
    gate = start_gate(lab, authority, plan)
    between = passage(lab, plan.submission_port)
    relay = replace(relay_of(plan, authority, trusted=other), port=between.port)
    sender = CLIENTS[client](lab, relay)

    sender.inject(letter("none", "Hello.\r\n"), BOUNCES_TO, ["bob@example.net"])

    eventually(lambda: between.ended, "a connection that has ended")
    eventually(lambda: re.search(UNTRUSTED[client], sender.log()), "its reason")
    gate.terminate()
    assert gate.daemon.wait() == 0
    assert not upstream.messages
    assert not {"submission", "login"} & {line["event"] for line in gate.log_lines()}


# -- SMTPUTF8 and DSN -------------------------------------------------------------------------


def by_smtp(mail: str, rcpt: str, message: bytes) -> bytes:
    """A dialogue that hands a message over."""
    commands = f"EHLO client.example.com\r\nMAIL FROM:{mail}\r\nRCPT TO:{rcpt}\r\nDATA\r\n"
    return commands.encode() + message + b".\r\nQUIT\r\n"


def postfix_international(lab: Lab, relay: Relayhost, message: bytes, to: list[str]) -> None:
    postfix_client(lab, relay).inject(message, to[0], to[1:])


def exim_international(lab: Lab, relay: Relayhost, message: bytes, to: list[str]) -> None:
    exim_client(lab, relay).inject_smtp(
        by_smtp(f"<{to[0]}> BODY=8BITMIME SMTPUTF8", f"<{to[1]}>", message)
    )


@pytest.mark.parametrize("send", [postfix_international, exim_international])
def test_international_addresses_pass(
    lab: Lab, send: Callable[[Lab, Relayhost, bytes, list[str]], None]
) -> None:
    upstream = upstream_thread(lab, *OFFERS)
    _, relay = open_gate(lab, upstream.server.port)
    sender, to = f"marketing+ünï@{DOMAIN_NAME}", "bøb@example.net"
    send(lab, relay, letter("five", "你好, Привет\r\n", author=sender), [sender, to])

    (message,) = upstream.wait_for(1)
    assert message.endswith("\r\n\r\n你好, Привет\r\n".encode())
    (mail,) = [command for command in upstream.commands if command.startswith("MAIL")]
    assert mail.startswith(f"MAIL FROM:<{sender}>")
    assert "SMTPUTF8" in mail
    assert any(command.startswith(f"RCPT TO:<{to}>") for command in upstream.commands)


def postfix_with_options(lab: Lab, relay: Relayhost, message: bytes) -> None:
    options = ("-N", "success,failure", "-R", "hdrs", "-V", "envelope-7")
    postfix_client(lab, relay).inject(message, BOUNCES_TO, ["bob@example.net"], *options)


_MAIL: Final = f"<{BOUNCES_TO}> RET=HDRS ENVID=envelope-7"
_RCPT: Final = "<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@example.net"


def exim_with_options(lab: Lab, relay: Relayhost, message: bytes) -> None:
    exim_client(lab, relay).inject_smtp(by_smtp(_MAIL, _RCPT, message))


def opensmtpd_with_options(lab: Lab, relay: Relayhost, message: bytes) -> None:
    opensmtpd_client(lab, relay).inject(
        message,
        BOUNCES_TO,
        ["bob@example.net"],
        ["RET=HDRS", "ENVID=envelope-7"],
        ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob@example.net"],
    )


def msmtp_with_options(lab: Lab, relay: Relayhost, message: bytes) -> None:
    options = ("--dsn-notify=success,failure", "--dsn-return=headers")
    msmtp_client(lab, relay).inject(message, BOUNCES_TO, ["bob@example.net"], *options)


@pytest.mark.parametrize(
    "send",
    [postfix_with_options, exim_with_options, opensmtpd_with_options, msmtp_with_options],
)
@pytest.mark.parametrize("offers", [OFFERS, ("8BITMIME",)], ids=["dsn", "plain"])
def test_the_options_of_dsn_reach_the_upstream_or_the_gate_reports_that_it_relayed(
    lab: Lab, send: Callable[[Lab, Relayhost, bytes], None], offers: tuple[str, ...]
) -> None:
    upstream = upstream_thread(lab, *offers)
    _, relay = open_gate(lab, upstream.server.port)
    has_envid = send is not msmtp_with_options  # it has no option for it

    send(lab, relay, letter("six", "Hello.\r\n"))

    if "DSN" in offers:
        upstream.wait_for(1)
        commands = upstream.commands
        (mail,) = [command for command in commands if command.startswith("MAIL")]
        (rcpt,) = [command for command in commands if command.startswith("RCPT")]
        assert "RET=HDRS" in mail
        assert ("ENVID=envelope-7" in mail) == has_envid
        assert set(re.findall("SUCCESS|FAILURE", rcpt)) == {"SUCCESS", "FAILURE"}
        return
    _, report = upstream.wait_for(2)
    words = re.sub(r"\s+", " ", report.decode())
    assert "Final-Recipient: rfc822;bob@example.net Action: relayed" in words
    assert ("Original-Envelope-Id: envelope-7" in words) == has_envid
    assert f"RCPT TO:<{BOUNCES_TO}>" in upstream.commands


# -- what is said of one of them --------------------------------------------------------------


def test_postfix_sends_no_faster_than_its_rate_delay(lab: Lab) -> None:
    sink = smtp_sink(lab)
    _, relay = open_gate(lab, sink.port)
    client = postfix_client(lab, relay, adds_options=True)
    began = time.monotonic()
    for number in range(3):
        client.inject(letter(f"{number}", "Hello.\r\n"), BOUNCES_TO, ["bob@example.net"])
    sink.wait_for(3)
    took_s = time.monotonic() - began
    client.wait_until_empty()

    assert took_s >= 2, "two pauses"


def refusing(lab: Lab) -> UpstreamThread:
    """An upstream that refuses and defers recipients by their names."""
    upstream = upstream_thread(lab, *OFFERS)

    def answer(command: str) -> str:
        if "<bad" in command:
            return "550 5.1.1 Nobody of that name lives here"
        return "450 4.2.0 Busy" if "<busy" in command else "250 2.1.5 Ok"

    upstream.server.answers["RCPT"] = answer
    return upstream


def asked(upstream: UpstreamThread) -> Counter[str]:
    """The number of times that it was asked about each recipient."""
    return Counter(re.findall(r"RCPT TO:<([^>]+)>", "\n".join(upstream.commands)))


def test_msmtp_fails_when_a_recipient_is_deferred_and_the_gate_reports_a_refused_one(
    lab: Lab,
) -> None:
    upstream = refusing(lab)
    _, relay = open_gate(lab, upstream.server.port)
    client = msmtp_client(lab, relay)

    client.inject(
        letter("seven", "Hello.\r\n"), BOUNCES_TO, ["good@example.net", "bad@example.net"]
    )
    _, report = upstream.wait_for(2)
    assert not client.refused
    assert b"Final-Recipient: rfc822;bad@example.net" in report

    client.inject(
        letter("eight", "Hello.\r\n"), BOUNCES_TO, ["good@example.net", "busy@example.net"]
    )
    client.inject(letter("nine", "Hello.\r\n"), BOUNCES_TO, ["bad2@example.net"])
    assert client.refused == [69, 69], client.log()
    assert "451 4.5.0" in client.log()
    assert "550 5.1.1" in client.log()
    assert len(upstream.server.messages) == 2


def test_dma_sends_each_recipient_a_message_and_its_bounces_are_refused(lab: Lab) -> None:
    upstream = refusing(lab)
    gate, relay = open_gate(lab, upstream.server.port)
    client = dma_client(lab, relay)

    to = [f"{name}@example.net" for name in ("good1", "good2", "bad", "busy")]
    client.inject(letter("ten", "Hello.\r\n"), BOUNCES_TO, to)
    upstream.wait_for(2)
    eventually(lambda: "bad-author" in gate.daemon.log(), "its bounce to be refused")
    eventually(lambda: "bad@" not in client.listing(), "the refused recipient to be given up")
    assert "busy@example.net" in client.listing()
    assert len(upstream.server.messages) == 2

    upstream.server.answers["RCPT"] = "250 2.1.5 Ok"
    gate.move_clock()
    client.flush()
    upstream.wait_for(3)
    eventually(lambda: "busy@" not in client.listing(), "the deferred one to be sent")
    assert asked(upstream) == Counter([*to, "busy@example.net"])
