"""Signals while the gate starts: its ledger is a server that does not answer meanwhile."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpgate.gate.initialize import Sample, initialize
from tests.support.forks import Fork
from tests.support.waiting import until


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


@pytest.fixture
def gate(tmp_path: Path, silent: socket.socket) -> Iterator[Fork]:
    initialize(tmp_path, Sample(hostname="gate.example.com"))
    config = tmp_path / "smtpgate.toml"
    text = config.read_text().replace('"0.0.0.0"', '"127.0.0.1"')
    for port in ("port = 587", "port = 465", "port = 9587"):
        text = text.replace(port, "port = 0")
    text = text.replace("\ntimeout_s = 5\n", "\ntimeout_s = 0.5\n")  # of [dns] and [ledger]
    url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
    text = text.replace('kind = "sqlite"', f'kind = "redis"\nurl = "{url}"')
    config.write_text(text)
    fork = Fork("-m", "smtpgate", "serve", "--config", config, output=tmp_path / "output")
    yield fork
    fork.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_during_the_start_ends_it_before_mail_is_accepted(
    gate: Fork, silent: socket.socket, number: signal.Signals
) -> None:
    with silent.accept()[0]:
        gate.signal(number)
        assert gate.wait(20) == 0
    assert '"event":"stopped"' in gate.output()
    assert '"event":"started"' not in gate.output()
    assert "Traceback" not in gate.output()


@pytest.mark.slow
async def test_a_sighup_during_the_start_reloads_when_the_gate_has_started(
    gate: Fork, silent: socket.socket
) -> None:
    with silent.accept()[0]:
        gate.signal(signal.SIGHUP)
    silent.close()
    await until(lambda: '"event":"certificate loaded"' in gate.output())
    gate.signal(signal.SIGTERM)
    assert gate.wait(20) == 0
    lines = gate.output().splitlines()
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    assert events.index("started") < events.index("certificate loaded")
    assert '"event":"error"' not in gate.output()
