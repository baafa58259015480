"""Clients that open sockets until the gate has no file left to open."""

import smtplib
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually, need
from tests.support.gate import LOGIN, SENDER, Gate, GatePlan, letter, start_gate
from tests.support.recorder import recorder

OPEN_FILES = 400
RESERVED = 256  # gate.reserved_descriptors


@contextmanager
def sockets_without_a_handshake(gate: Gate, count: int) -> Iterator[None]:
    """So many connections to the port with implicit TLS, from several addresses."""
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(
                socket.create_connection(
                    (LOOPBACK, gate.tls_port),
                    timeout=10,
                    source_address=(f"127.0.0.{2 + number // 60}", 0),
                )
            )
        yield


def turned_away(gate: Gate) -> float:
    """The number of connections refused because no file could be opened."""
    series = 'smtpgate_budget_exhausted_total{budget="descriptors",listener="submissions"} '
    url = f"http://{LOOPBACK}:{gate.plan.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return float(text.partition(series)[2].partition("\n")[0])


def is_ready(gate: Gate) -> bool:
    url = f"http://{LOOPBACK}:{gate.plan.http_port}/readyz"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bool(answer.status == 200)


def test_senders_and_readyz_go_on_when_hostile_sockets_take_what_files_there_are(
    lab: Lab,
) -> None:
    need("prlimit", "util-linux")
    authority, upstream = Authority(lab), recorder(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port, open_files=OPEN_FILES))
    context = authority.client_context()
    leaves = f"leaves {OPEN_FILES - RESERVED} connections of clients"
    eventually(lambda: leaves in gate.daemon.log(), "the warning")
    with closing(smtplib.SMTP_SSL(LOOPBACK, gate.tls_port, context=context)) as client:
        client.login(LOGIN.username, LOGIN.password)
        with sockets_without_a_handshake(gate, 500):
            eventually(lambda: turned_away(gate) > 300, "connections to be turned away")
            for number in range(5):
                message = letter(f"m{number}", "Made it.\r\n")
                assert client.sendmail(SENDER, ["bob@example.net"], message) == {}
                assert is_ready(gate)
        assert len(upstream.messages) == 5

    def can_log_in_again() -> bool:
        try:
            with smtplib.SMTP_SSL(LOOPBACK, gate.tls_port, context=context) as again:
                again.login(LOGIN.username, LOGIN.password)
        except (OSError, smtplib.SMTPException):
            return False
        return True

    eventually(can_log_in_again, "room for another connection")
    assert "Too many open files" not in gate.daemon.log()
