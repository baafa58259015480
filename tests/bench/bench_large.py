"""Many large uploads at once: memory, the longest delay of the event loop, and CPU.

A gate with its workers, and an upstream and clients in processes of their own.
``SMTPGATE_BENCH_UPLOADS`` is their number (50; 3 shows that it runs) and
``SMTPGATE_BENCH_OCTETS`` the size of each (40,000,000). A session that sends NOOP beside them
shows the time that others wait. Printed, not judged, but no upload may be refused.
"""

import asyncio
import base64
import multiprocessing
import os
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import pytest
import uvloop

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, free_port
from tests.support.forgetful import Forgetful
from tests.support.gate import LOGIN, SENDER, Gate, GatePlan, letter, start_gate

pytestmark = pytest.mark.bench

UPLOADS: Final = int(os.environ.get("SMTPGATE_BENCH_UPLOADS", "50"))
OCTETS: Final = int(os.environ.get("SMTPGATE_BENCH_OCTETS", "40000000"))
_SLICE: Final = base64.encodebytes(os.urandom(48_000)).replace(b"\n", b"\r\n")
_PLAIN: Final = base64.b64encode(f"\0{LOGIN.username}\0{LOGIN.password}".encode()).decode()
_LISTENER: Final = (
    '[listener.plain]\naddress = "127.0.0.1"\nport = {port}\ntls = "none"\n'
    "allow_plaintext_auth = true\n"
)
_NOOP_PAUSE_S: Final = 0.005
_NOOPS_A_SESSION: Final = 50
_SAMPLE_S: Final = 0.1
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """The gate's processes over a run, and the number of messages that were accepted."""

    rest_mb: float
    peak_mb: float
    cpu_s: float
    delay_ms: float
    noops_s: list[float]
    accepted: int


# -- processes beside the gate -----------------------------------------------------------------


async def _accept(port: int, ready: Event, stop: Event) -> None:
    server = await asyncio.get_running_loop().create_server(Forgetful, LOOPBACK, port)
    async with server:
        ready.set()
        while not stop.is_set():  # noqa: ASYNC110 - an event of another process
            await asyncio.sleep(0.1)


def _upstream(port: int, ready: Event, stop: Event) -> None:
    uvloop.run(_accept(port, ready, stop))


@contextmanager
def upstream() -> Iterator[int]:
    """The port of an upstream that forgets, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ready, stop, port = spawn.Event(), spawn.Event(), free_port()
    process = spawn.Process(target=_upstream, args=(port, ready, stop))
    process.start()
    try:
        assert ready.wait(_PATIENCE_S)
        yield port
    finally:
        stop.set()
        process.join(10)


async def _upload(port: int, number: int, octets: int, context: ssl.SSLContext | None) -> bool:
    """Send one message; true if it was accepted."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port, ssl=context)
    await reader.readline()
    rcpt = "RCPT TO:<bob@example.net>"
    for command in ("EHLO x", f"AUTH PLAIN {_PLAIN}", f"MAIL FROM:<{SENDER}>", rcpt, "DATA"):
        writer.write(command.encode() + b"\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
    writer.write(letter(f"n{number}", ""))
    for _ in range(octets // len(_SLICE)):
        writer.write(_SLICE)
        await writer.drain()
    writer.write(b".\r\n")
    reply = await reader.readline()
    writer.close()
    if not reply.startswith(b"250"):
        print(f"  refused: {reply.decode().strip()}")
    return reply.startswith(b"250")


async def _upload_all(port: int, count: int, octets: int, ca_file: str | None) -> int:
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    uploads = [_upload(port, number, octets, context) for number in range(count)]
    return sum(await asyncio.gather(*uploads))


def _clients(
    port: int,
    count: int,
    octets: int,
    ca_file: str | None,
    accepted: "multiprocessing.Queue[int]",
) -> None:
    accepted.put(uvloop.run(_upload_all(port, count, octets, ca_file)))


class Uploads:
    """So many uploads at once, of clients in a process of their own; TLS with a CA."""

    def __init__(self, port: int, count: int, octets: int, ca_file: str | None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._accepted: multiprocessing.Queue[int] = spawn.Queue()
        words = (port, count, octets, ca_file, self._accepted)
        self.process = spawn.Process(target=_clients, args=words)

    def accepted(self) -> int:
        """Wait for the end of all; how many messages were accepted."""
        self.process.join()
        return self._accepted.get(timeout=5)


@contextmanager
def _started(lab: Lab) -> Iterator[tuple[Gate, Authority, int]]:
    """A gate with a forgetful upstream, and its port without TLS."""
    authority, plain = Authority(lab), free_port()
    with upstream() as port:
        plan = GatePlan(port, sections=_LISTENER.format(port=plain))
        yield start_gate(lab, authority, plan), authority, plain


# -- measuring ---------------------------------------------------------------------------------


def _processes(pid: int) -> list[int]:
    """A process and its children: the workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _resident_mb(pid: int) -> float:
    """The memory of its processes; pages that they share count once."""
    kib = 0
    for one in _processes(pid):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def _cpu_s(pid: int) -> float:
    ticks = 0
    for one in _processes(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _delay_ms(gate: Gate) -> float:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{gate.plan.http_port}/metrics") as page:
        lines = page.read().decode().splitlines()
    name = "smtpgate_loop_delay_longest_seconds "
    (value,) = [line.removeprefix(name) for line in lines if line.startswith(name)]
    return float(value) * 1000


async def _noops(port: int, stop: asyncio.Event) -> list[float]:
    """The time of each NOOP, over sessions with less of them than count as junk."""
    taken: list[float] = []
    while not stop.is_set():
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        await reader.readline()
        for _ in range(_NOOPS_A_SESSION):
            started = time.perf_counter()
            writer.write(b"NOOP\r\n")
            await reader.readline()
            taken.append(time.perf_counter() - started)
            await asyncio.sleep(_NOOP_PAUSE_S)
        writer.close()
    return taken


def _measure(gate: Gate, port: int, plain: int, ca_file: str | None) -> Measured:
    uploads = Uploads(port, UPLOADS, OCTETS, ca_file)
    pid = gate.daemon.process.pid

    async def beside() -> list[float]:
        stop = asyncio.Event()
        noops = asyncio.create_task(_noops(plain, stop))
        while uploads.process.is_alive():
            resident_mb.append(await asyncio.to_thread(_resident_mb, pid))
            await asyncio.sleep(_SAMPLE_S)
        stop.set()
        return await noops

    rest_mb, before_s = _resident_mb(pid), _cpu_s(pid)
    resident_mb = [rest_mb]
    uploads.process.start()
    taken = uvloop.run(beside())
    return Measured(
        rest_mb=rest_mb,
        peak_mb=max(resident_mb),
        cpu_s=_cpu_s(pid) - before_s,
        delay_ms=_delay_ms(gate),
        noops_s=sorted(taken),
        accepted=uploads.accepted(),
    )


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "TLS"])
def test_uploads_at_once(is_encrypted: bool) -> None:
    with Lab() as lab, _started(lab) as (gate, authority, plain):
        port = gate.tls_port if is_encrypted else plain
        ca_file = str(authority.ca_file) if is_encrypted else None
        found = _measure(gate, port, plain, ca_file)
    p50, p99 = (found.noops_s[int(len(found.noops_s) * share)] * 1e3 for share in (0.5, 0.99))
    print(
        f"\n  {UPLOADS} uploads of {OCTETS / 1e6:g} MB at once, {found.accepted} accepted: "
        f"peak {found.peak_mb:.0f} MB resident (at rest {found.rest_mb:.0f}), "
        f"{found.cpu_s / UPLOADS * 1e3:.0f} ms CPU each\n"
        f"  longest delay of the event loop {found.delay_ms:.1f} ms; NOOP beside them: "
        f"p50 {p50:.2f}, p99 {p99:.2f}, longest {found.noops_s[-1] * 1e3:.1f} ms"
    )
    assert found.accepted == UPLOADS
