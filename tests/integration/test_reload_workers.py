"""`smtpgate reload' of a gate with several processes: all of them have the same afterwards."""

import os
import signal
import socket

import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.gate import HOSTNAME, Gate, GatePlan, logged_in, start_gate, workers_of
from tests.support.recorder import recorder


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
    assert (reloaded.returncode, reloaded.stderr) == (0, "")
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
