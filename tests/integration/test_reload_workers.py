"""`smtpgate reload' of a gate with several processes: all of them have the same afterwards."""

import os
import re
import signal
import smtplib
import socket
import threading

import pytest

from smtpgate.config import load_config
from smtpgate.control import ReloadAnswer, ReloadRequest, ask
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.gate import (
    HOSTNAME,
    SENDER,
    Gate,
    GatePlan,
    letter,
    logged_in,
    start_gate,
    workers_of,
)
from tests.support.recorder import message_ids, recorder


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab)


def certificate_of(gate: Gate, authority: Authority) -> bytes:
    """The certificate that a client of the implicit TLS port gets."""
    context = authority.client_context()
    plain = socket.create_connection((LOOPBACK, gate.tls_port), 10)
    with context.wrap_socket(plain, server_hostname=HOSTNAME) as secured:
        return secured.getpeercert(binary_form=True) or b""


def certificates_of_many(gate: Gate, authority: Authority) -> set[bytes]:
    """The certificates of so many connections that each worker has some."""
    return {certificate_of(gate, authority) for _ in range(12)}


def test_all_workers_and_later_ones_have_the_newer_certificate(
    lab: Lab, authority: Authority
) -> None:
    gate = start_gate(lab, authority, GatePlan(recorder(lab).port, workers=2))
    older = certificates_of_many(gate, authority)
    newer = authority.renew(HOSTNAME)
    assert certificates_of_many(gate, authority) == older
    reloaded = gate.reload()
    assert reloaded.returncode == 0, reloaded.stderr
    assert reloaded.stdout == "the configuration is as it was\n"
    assert certificates_of_many(gate, authority) == {newer}
    # A worker that starts later does not read the files, which are spoilt.
    authority.certificate(HOSTNAME).key_file.write_text("nonsense")
    os.kill(workers_of(gate)["0"], signal.SIGKILL)
    eventually(
        lambda: [line for line in gate.log_lines() if line["event"] == "worker started"],
        "another worker",
    )
    assert certificates_of_many(gate, authority) == {newer}
    refused = gate.reload()
    assert refused.returncode == 1
    assert "listener.submission: cert_file" in refused.stderr
    with logged_in(gate, authority.client_context()) as client:
        assert client.noop()[0] == 250


def test_a_reload_without_a_gate_says_so(lab: Lab, authority: Authority) -> None:
    gate = start_gate(lab, authority, GatePlan(recorder(lab).port, workers=2))
    gate.terminate()
    assert gate.daemon.wait() == 0
    refused = gate.reload()
    assert refused.returncode == 1
    assert "no gate answers at" in refused.stderr


def recipients_taken(gate: Gate, authority: Authority) -> list[int]:
    """The recipients that each of many sessions may name for one message, at most five."""
    found = []
    for _ in range(8):
        with logged_in(gate, authority.client_context()) as client:
            client.mail(SENDER)
            codes = [client.rcpt(f"r{number}@example.net")[0] for number in range(5)]
            found.append(codes.count(250))
    return found


def test_all_workers_and_later_ones_have_the_newer_configuration(
    lab: Lab, authority: Authority
) -> None:
    plan = GatePlan(recorder(lab).port, workers=2, gate_keys="max_recipients = 4")
    gate = start_gate(lab, authority, plan)
    text = gate.config.read_text()
    assert recipients_taken(gate, authority) == [4] * 8
    gate.config.write_text(text.replace("max_recipients = 4", "max_recipients = 2"))
    reloaded = gate.reload()
    assert (reloaded.returncode, reloaded.stdout) == (0, "changed: gate.max_recipients\n")
    assert recipients_taken(gate, authority) == [2] * 8
    for worker in workers_of(gate).values():
        os.kill(worker, signal.SIGKILL)
    eventually(
        lambda: [line["event"] for line in gate.log_lines()].count("worker started") == 2,
        "other workers",
    )
    assert recipients_taken(gate, authority) == [2] * 8
    fewer = text.replace("max_recipients = 4", "max_recipients = 3").replace(
        "[upstream.default]", "[upstream.default]\nmax_connections = 1"
    )
    gate.config.write_text(fewer.replace("workers = 2", "workers = 1"))
    refused = gate.reload()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "each worker needs a connection" in refused.stderr
    assert recipients_taken(gate, authority) == [2] * 8
    gate.config.write_text(text)
    gate.daemon.signal(signal.SIGHUP)
    eventually(lambda: recipients_taken(gate, authority) == [4] * 8, "the older configuration")


# -- under load --------------------------------------------------------------------------------


class Load:
    """Clients that send until they are stopped, each over connections of five messages."""

    def __init__(self, gate: Gate, authority: Authority, clients: int) -> None:
        self._gate, self._context = gate, authority.client_context()
        self._is_over = threading.Event()
        self.accepted: list[str] = []
        self.problems: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        count = 0
        try:
            while not self._is_over.is_set():
                with logged_in(self._gate, self._context) as client:
                    for _ in range(5):
                        name = f"m{number}-{count}"
                        body = "Hello.\r\n" * (1 if count % 7 else 20_000)
                        client.sendmail(SENDER, ["bob@example.net"], letter(name, body))
                        self.accepted.append(f"<{name}@example.com>")
                        count += 1
        except (OSError, smtplib.SMTPException) as error:
            self.problems.append(error)

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_message_is_lost_or_refused_by_twenty_reloads(
    lab: Lab, authority: Authority, workers: int
) -> None:
    upstreams = [recorder(lab), recorder(lab)]
    plan = GatePlan(upstreams[0].port, workers=workers, gate_keys="max_recipients = 50")
    gate = start_gate(lab, authority, plan)
    # A reload without documents takes no process of its own, and so little time.
    text = re.sub(r"(?m)^apply = .*$", "", gate.config.read_text())
    socket_ = load_config(gate.config).control_path
    load = Load(gate, authority, 4)
    try:
        for number in range(20):
            newer = text.replace("max_recipients = 50", f"max_recipients = {number + 60}")
            if number % 2:
                ports = [f"\nport = {one.port}\n" for one in upstreams]
                newer = newer.replace(ports[0], ports[1])
            if number % 5 == 3:
                newer = newer.replace("max_recipients", "max_recipient")
            gate.config.write_text(newer)
            (answer,) = ask(socket_, ReloadRequest(), ReloadAnswer, timeout_s=60)
            assert answer.is_refused == (number % 5 == 3), answer
            assert answer.is_refused or "gate.max_recipients" in answer.changed
            wanted = len(load.accepted) + 8
            eventually(lambda: len(load.accepted) >= wanted or load.problems, "messages")  # noqa: B023
    finally:
        load.stop()
    assert load.problems == []
    taken = message_ids(upstreams[0]) + message_ids(upstreams[1])
    assert sorted(taken) == sorted(load.accepted)
    assert len(taken) > 100
    assert min(len(one.messages) for one in upstreams) > 10
    gate.terminate()
    assert gate.daemon.wait() == 0
    events = [line["event"] for line in gate.log_lines()]
    assert events.count("configuration loaded") == 16
    assert events.count("configuration refused") == 4
    assert not {"error", "worker ended", "worker replaced", "stray-error"} & set(events)
    outcomes = {line["outcome"] for line in gate.log_lines() if line["event"] == "submission"}
    assert outcomes == {"accepted"}
