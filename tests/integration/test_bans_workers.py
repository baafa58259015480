"""`smtpgate bans' of a gate with several processes: all of them turn away the same clients."""

import json
import os
import signal
import socket
import subprocess

import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.forks import completed
from tests.support.gate import Gate, GatePlan, start_gate, workers_of
from tests.support.recorder import recorder

ATTACKER = "192.0.2.7"
EARLY = b"GET / HTTP/1.1\r\n"
CONNECTIONS = 12  # so many that each worker has some


@pytest.fixture
def gate(lab: Lab) -> Gate:
    plan = GatePlan(
        recorder(lab).port,
        workers=2,
        listener_keys='proxy_from = ["127.0.0.1"]',
        sections="[bans]\nmax_failures = 12\n",
    )
    return start_gate(lab, Authority(lab), plan)


def bans(gate: Gate, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `smtpgate bans', and wait for its end."""
    return completed("bans", *words, "--config", gate.config)


def first_code(gate: Gate, address: str, octets: bytes = b"") -> str:
    """The code of the first reply to a client of that address."""
    with socket.create_connection((LOOPBACK, gate.port), 10) as client:
        client.sendall(f"PROXY TCP4 {address} 192.0.2.1 1 2\r\n".encode() + octets)
        return client.makefile().readline()[:3]


def test_failures_at_any_worker_ban_a_client_at_all_of_them(gate: Gate) -> None:
    assert [first_code(gate, ATTACKER, EARLY) for _ in range(3)] == ["554"] * 3
    eventually(lambda: first_code(gate, ATTACKER) == "421", "the ban")
    eventually(
        lambda: {first_code(gate, ATTACKER) for _ in range(CONNECTIONS)} == {"421"},
        "the ban at all workers",
    )
    (ban,) = json.loads(bans(gate, "list", "--json").stdout)
    assert (ban["client"], ban["bans"]) == (ATTACKER, 1)
    assert bans(gate, "remove", ATTACKER).returncode == 0
    assert {first_code(gate, ATTACKER) for _ in range(CONNECTIONS)} == {"220"}


def test_a_ban_by_hand_is_one_at_all_workers(gate: Gate) -> None:
    added = bans(gate, "add", ATTACKER)
    assert added.returncode == 0, added.stderr
    assert {first_code(gate, ATTACKER) for _ in range(CONNECTIONS)} == {"421"}
    assert {first_code(gate, "192.0.2.8") for _ in range(CONNECTIONS)} == {"220"}
    refused = bans(gate, "add", LOOPBACK)
    assert refused.returncode == 1
    assert "loopback is never banned" in refused.stderr


def pids(gate: Gate) -> list[int]:
    """The processes of the workers, by the log: those of the start, then each later one."""
    later = [line["pid"] for line in gate.log_lines() if line["event"] == "worker started"]
    return [*workers_of(gate).values(), *later]


def test_a_worker_that_starts_later_knows_who_is_banned_and_who_is_not(gate: Gate) -> None:
    by_hand, forgiven, short_of_it = "192.0.2.20", "192.0.2.21", "192.0.2.22"
    assert [first_code(gate, ATTACKER, EARLY) for _ in range(3)] == ["554"] * 3
    assert [first_code(gate, short_of_it, EARLY) for _ in range(2)] == ["554"] * 2
    for address in (by_hand, forgiven):
        assert bans(gate, "add", address).returncode == 0
    assert bans(gate, "remove", forgiven).returncode == 0
    eventually(lambda: first_code(gate, ATTACKER) == "421", "the ban")
    for pid in pids(gate):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(pids(gate)) == 4, "two other workers")
    for address, wanted in ((ATTACKER, "421"), (by_hand, "421"), (forgiven, "220")):
        assert {first_code(gate, address) for _ in range(CONNECTIONS)} == {wanted}
    assert first_code(gate, short_of_it, EARLY) == "554"
    eventually(lambda: first_code(gate, short_of_it) == "421", "its failures still count")
    shown = json.loads(bans(gate, "list", "--json").stdout)
    assert {ban["client"] for ban in shown} == {ATTACKER, by_hand, short_of_it}
