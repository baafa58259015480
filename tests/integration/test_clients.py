"""Clients that people use, each with both kinds of TLS and both ways to log in."""

from dataclasses import dataclass

import pytest

from tests.support.authority import Authority
from tests.support.daemons import Lab
from tests.support.gate import SENDER, Gate, GatePlan, letter, start_gate
from tests.support.mailclients import CLIENTS, Job
from tests.support.recorder import Recorder, recorder
from tests.support.world import DOMAIN_NAME

_LINE = "0123456789 abcdefghijklmnopqrstuvwxyz .,;:- ABCDEFGHIJKLMNOPQRS\r\n"
BODIES = {
    "eight-bit": "Grüße aus Köln\r\n.\r\n..two dots\r\n\tTab  und Raum \r\n\r\n\r\nEnde\r\n",
    "smtputf8": "你好, Привет\r\n",
    "five-megabytes": _LINE * (5 * 1024 * 1024 // len(_LINE)),
}
# Every client with every body, but for those that do not speak SMTPUTF8.
PAIRS = [
    (client, body)
    for client, known in CLIENTS.items()
    for body in BODIES
    if body != "smtputf8" or known.has_smtputf8
]


@dataclass(frozen=True, slots=True)
class Relay:
    """A gate with a recording upstream."""

    lab: Lab
    authority: Authority
    upstream: Recorder
    gate: Gate


@pytest.fixture(scope="module")
def relay(shared_lab: Lab) -> Relay:
    authority, upstream = Authority(shared_lab), recorder(shared_lab)
    gate = start_gate(shared_lab, authority, GatePlan(upstream.port))
    return Relay(shared_lab, authority, upstream, gate)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("implicit_tls", [False, True], ids=["starttls", "implicit-tls"])
@pytest.mark.parametrize(("client", "body"), PAIRS)
async def test_a_client_logs_in_and_its_message_arrives_unchanged(
    relay: Relay, client: str, body: str, implicit_tls: bool, mechanism: str
) -> None:
    international = body == "smtputf8"
    sender = f"marketing+ünï@{DOMAIN_NAME}" if international else SENDER
    recipient = "bøb@example.net" if international else "bob@example.net"
    sent = letter(f"{client}-{body}", BODIES[body], author=sender)
    relay.upstream.messages.clear()

    await CLIENTS[client].send(
        Job(
            relay.gate,
            relay.authority,
            relay.lab.new_folder(client),
            implicit_tls,
            mechanism,
            sender,
            recipient,
            sent,
            international,
        )
    )

    (kept,) = relay.upstream.messages
    assert (kept.mail_from, kept.recipients) == (sender, (recipient,))
    assert ("SMTPUTF8" in kept.options) == international
    assert kept.body == BODIES[body].encode()
    assert b"x-ses-" not in kept.header.lower()
