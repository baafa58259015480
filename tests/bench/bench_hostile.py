"""Hostile clients beside a legitimate one: the time that its NOOP takes.

A gate of its own process has a legitimate session, logged in over TLS, and so many hostile
connections from another address, which come back whenever they are closed. Printed, not judged.
``SMTPGATE_BENCH_SECONDS`` is the length of each measurement (4; 0.01 shows that it runs); it
ends later when no NOOP has had its reply by then. The hostile clients and the legitimate one
take their CPU from the same machine: on one with less than four cores a part of the figures is
theirs.
"""

import multiprocessing
import os
import selectors
import smtplib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from typing import Final

import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab
from tests.support.gate import LOGIN, Gate, GatePlan, start_gate
from tests.support.recorder import recorder

pytestmark = pytest.mark.bench

SECONDS: Final = float(os.environ.get("SMTPGATE_BENCH_SECONDS", "4"))
ELSEWHERE: Final = "127.0.0.2"
# Below max_junk_commands: then the session is a new one.
NOOPS_A_SESSION: Final = 90
PAUSE_S: Final = 0.002
# For the one NOOP that each measurement has, on a machine that has much else to do.
PATIENCE_S: Final = 120.0
FLOODS: Final = {
    "commands": b"EHLO x\r\nNOOP\r\nRSET\r\nHELP\r\n" * 400,
    "errors": b"XYZZY\r\n" * 1400,
    "long lines": b"x" * 20_000 + b"\r\n",
    "replies unread": b"EHLO x\r\n" * 1200,
    "octets": b"N",
    "silence": b"",
}


class _Attacker:
    """One connection that sends its flood for ever, and opens itself again when closed."""

    def __init__(self, port: int, kind: str, selector: selectors.BaseSelector) -> None:
        self._port = port
        self._flood = FLOODS[kind]
        self._reads = kind != "replies unread"
        self._selector = selector
        self.retry_at = 0.0
        self.socket: socket.socket | None = None

    def connect(self) -> None:
        """Open the connection."""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((ELSEWHERE, 0))
        self.socket.connect_ex((LOOPBACK, self._port))
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._flood else 0)
        self._selector.register(self.socket, wanted, self)

    def go_on(self, events: int) -> None:
        """Send more and read what came; wait a little when the gate has closed."""
        assert self.socket is not None
        try:
            if events & selectors.EVENT_READ and self._reads and not self.socket.recv(65536):
                raise ConnectionError
            if events & selectors.EVENT_WRITE:
                self.socket.send(self._flood)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            self.retry_at = time.monotonic() + 0.01

    def close(self) -> None:
        """Close the connection."""
        if self.socket is not None:
            self._selector.unregister(self.socket)
            self.socket.close()
            self.socket = None


def _attack(port: int, kinds: list[str], ready: Event, stop: Event) -> None:
    selector = selectors.DefaultSelector()
    attackers = [_Attacker(port, kind, selector) for kind in kinds]
    ready.set()
    while not stop.is_set():
        now = time.monotonic()
        for one in attackers:
            if one.socket is None and one.retry_at <= now:
                one.connect()
        for key, events in selector.select(0.01):
            key.data.go_on(events)
    for one in attackers:
        one.close()


@contextmanager
def attacked(port: int, kinds: list[str]) -> Iterator[None]:
    """Meanwhile there are hostile clients, in a process of their own."""
    spawn = multiprocessing.get_context("spawn")
    ready, stop = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_attack, args=(port, kinds, ready, stop))
    process.start()
    try:
        assert ready.wait(PATIENCE_S)
        time.sleep(min(SECONDS, 1.0))
        yield
    finally:
        stop.set()
        process.join(30)


def for_seconds() -> Callable[[], bool]:
    """True when a measurement has lasted long enough."""
    until = time.perf_counter() + SECONDS
    return lambda: time.perf_counter() >= until


def noops_s(
    gate: Gate, authority: Authority, is_over: Callable[[], bool]
) -> tuple[list[float], int]:
    """The time of each NOOP, of one at least, and how often the session was lost."""
    context, taken, lost = authority.client_context(), list[float](), 0
    over_at: float | None = None

    def is_enough() -> bool:
        nonlocal over_at
        if not is_over():
            return False
        now = time.monotonic()
        over_at = over_at or now
        if not taken and now > over_at + PATIENCE_S:
            pytest.fail(f"no NOOP had a reply {PATIENCE_S:g} s later; {lost} sessions lost")
        return bool(taken)

    while not is_enough():
        with suppress(smtplib.SMTPServerDisconnected, OSError):
            client = smtplib.SMTP_SSL(LOOPBACK, gate.tls_port, timeout=30, context=context)
            client.login(LOGIN.username, LOGIN.password)
            for _ in range(NOOPS_A_SESSION):
                if is_enough():
                    break
                started = time.perf_counter()
                client.noop()
                taken.append(time.perf_counter() - started)
                time.sleep(PAUSE_S)
            client.quit()
            continue
        lost += 1
    return taken, lost


def show(note: str, taken: list[float], lost: int) -> None:
    """Print the times of NOOPs."""
    taken.sort()
    p50, p99 = (taken[int(len(taken) * share)] * 1e3 for share in (0.5, 0.99))
    print(
        f"  {note:28} {len(taken):5} NOOPs, p50 {p50:7.2f}, p99 {p99:7.2f}, "
        f"longest {taken[-1] * 1e3:7.2f} ms, {lost} sessions lost"
    )


@contextmanager
def a_gate() -> Iterator[tuple[Gate, Authority]]:
    """A gate with an upstream that nobody uses."""
    with Lab() as lab:
        authority = Authority(lab)
        yield start_gate(lab, authority, GatePlan(recorder(lab).port)), authority


def test_noop_beside_floods_of_commands() -> None:
    print()
    with a_gate() as (gate, authority):
        for count in (0, 1, 20, 90):
            with attacked(gate.port, ["commands"] * count):
                show(f"{count} floods of commands", *noops_s(gate, authority, for_seconds()))


@pytest.mark.parametrize("kind", [kind for kind in FLOODS if kind != "commands"])
def test_noop_beside_another_kind_of_hostile_client(kind: str) -> None:
    print()
    with a_gate() as (gate, authority), attacked(gate.port, [kind] * 90):
        show(f"90 times {kind}", *noops_s(gate, authority, for_seconds()))


def test_noop_beside_silent_clients_before_their_tls_handshake() -> None:
    print()
    with a_gate() as (gate, authority), attacked(gate.tls_port, ["silence"] * 300):
        show("300 without a handshake", *noops_s(gate, authority, for_seconds()))


def test_noop_beside_all_kinds_at_once() -> None:
    print()
    kinds = list(FLOODS) * 15
    with a_gate() as (gate, authority), attacked(gate.port, kinds):
        show(f"{len(kinds)} of all kinds", *noops_s(gate, authority, for_seconds()))
