"""The cost of a call: CPU time of the gate for SendRawEmail and GetSendQuota, beside SMTP.

    .venv/bin/python -m tests.bench.bench_api

Requests are signed beforehand, and connections are kept, as AWS's clients keep them. The goals:
SendRawEmail of 4 KiB costs at most 0.6 ms more than the same message by SMTP, GetSendQuota less
than 0.5 ms, and a thousand connections without a request cost nothing. As a test it is short.
"""

import asyncio
import base64
import hashlib
import os
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest

from smtpgate.core.api.sigv4 import Claim, SignedRequest, authorization
from smtpgate.core.secret import Secret
from smtpgate.signing.private_keys import generate_private_key
from tests.bench.bench_path import _clients, _cpu_s, _RunningGate
from tests.bench.peers.gate import ACCOUNT, REGION, Contents, Ports, write_gate
from tests.bench.peers.peer import SENDER
from tests.bench.peers.programs import compiled
from tests.bench.peers.sink import open_sink
from tests.support.daemons import Lab, free_port, listens

pytestmark = pytest.mark.bench

SECONDS: Final = float(os.environ.get("SMTPGATE_BENCH_SECONDS", "3"))
ROOT: Final = Path(__file__).resolve().parents[2]
_KEY_ID: Final = "AKIABENCHROOT0000000"
_SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"
_SIGNED: Final = ("content-type", "host", "x-amz-date")
_CONNECTIONS: Final = 16
_OCTETS: Final = 4096
_ROOT_KEY: Final = f"""
[[accounts.{ACCOUNT}.access_keys]]
id = "{_KEY_ID}"
secret_file = "secret"
"""
_SECTION: Final = """
[api.bench]
address = "127.0.0.1"
port = {port}
tls = "none"
allow_plaintext = true
max_calls = 1000000
calls_per_minute = 60000000
max_connections = 2000
idle_timeout_s = 600
"""


@dataclass(frozen=True)
class Gate:
    """A gate with SMTP and the API."""

    of_smtp: _RunningGate
    api_port: int

    def request(self, parameters: dict[str, str]) -> bytes:
        """A signed request, as it goes over the wire."""
        body = urlencode({**parameters, "Version": "2010-12-01"}).encode()
        now = datetime.now(UTC).replace(microsecond=0)
        headers = {
            "content-type": _FORM,
            "host": f"127.0.0.1:{self.api_port}",
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        }
        fields = tuple((name.encode(), value.encode()) for name, value in headers.items())
        digest = hashlib.sha256(body).hexdigest()
        request = SignedRequest("POST", b"/", b"", fields, digest)
        claim = Claim(_KEY_ID, now, REGION, "ses", _SIGNED, "", timedelta(0), in_query=False)
        headers["authorization"] = authorization(claim.signed(request, Secret(_SECRET)))
        headers["content-length"] = str(len(body))
        lines = [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode() + body


def start(lab: Lab, sink_port: int) -> Gate:
    """Start a gate of this checkout."""
    folder, api_port = lab.new_folder("gate"), free_port()
    ports = Ports(free_port(), free_port(), sink_port)
    contents = Contents(
        {"perf": generate_private_key("rsa")}, sections=_SECTION.format(port=api_port)
    )
    config = write_gate(folder, contents, ports, workers=1)
    accounts = next(folder.rglob("accounts.toml"))
    accounts.write_text(accounts.read_text() + _ROOT_KEY)
    daemon = lab.start(
        "smtpgate",
        [sys.executable, "-P", "-m", "smtpgate", "serve", "--config", str(config)],
        folder / "log",
        ready=partial(listens, api_port),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return Gate(_RunningGate("api", daemon.process.pid, ports.smtp), api_port)


async def _ask(port: int, requests: Sequence[bytes], until: float) -> int:
    """Send one request after the other on a connection; how many had the status 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while time.monotonic() < until:
        writer.write(requests[answered % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200"), answer
        answered += 1
    writer.close()
    return answered


def cost_ms(gate: Gate, request: bytes, seconds: float) -> float:
    """CPU milliseconds a call."""

    async def load() -> int:
        until = time.monotonic() + seconds
        asked = [_ask(gate.api_port, [request], until) for _ in range(_CONNECTIONS)]
        return sum(await asyncio.gather(*asked))

    before = gate.of_smtp.cpu_s()
    answered = asyncio.run(load())
    time.sleep(0.1)  # what the gate does after the last answer belongs to it
    return (gate.of_smtp.cpu_s() - before) / answered * 1e3


async def _idle(port: int, count: int, seconds: float, process_id: int) -> float:
    """The CPU seconds of a second with so many connections that ask nothing."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        await asyncio.sleep(0.5)
        before = _cpu_s(process_id)
        await asyncio.sleep(seconds)
        return (_cpu_s(process_id) - before) / seconds


def _message() -> bytes:
    head = f"From: {SENDER}\r\nTo: jane@example.net\r\nSubject: Hello\r\n\r\n".encode()
    return head + (b"x" * 70 + b"\r\n") * ((_OCTETS - len(head)) // 72)


def measure(seconds: float, connections: int) -> None:
    """Measure, and print a line for each."""
    raw = _message()
    send = {
        "Action": "SendRawEmail",
        "Source": SENDER,
        "Destinations.member.1": "jane@example.net",
        "RawMessage.Data": base64.b64encode(raw).decode(),
    }
    with Lab() as lab, open_sink(lab, (programs := compiled(lab.folder)).sink) as sink:
        gate = start(lab, sink.port)
        clients = _clients(lab, programs.load, _OCTETS, seconds)
        calls = {"SendRawEmail": send, "GetSendQuota": {"Action": "GetSendQuota"}}
        for warm in (True, False):
            by_smtp = clients.cost_ms(gate.of_smtp)
            costs = {
                name: cost_ms(gate, gate.request(parameters), seconds)
                for name, parameters in calls.items()
            }
            if warm:
                continue
            print(f"  SMTP          {by_smtp:.3f} ms CPU a message of 4 KiB")
            for name, cost in costs.items():
                more = f" ({cost - by_smtp:+.3f} to SMTP)" if name == "SendRawEmail" else ""
                print(f"  {name:13} {cost:.3f} ms CPU a call{more}")
        process_id = gate.of_smtp.process_id
        none = asyncio.run(_idle(gate.api_port, 0, seconds, process_id))
        many = asyncio.run(_idle(gate.api_port, connections, seconds, process_id))
        print(
            f"  idle          {none * 1e3:.1f} ms CPU a second, {many * 1e3:.1f} with "
            f"{connections} connections"
        )


def test_calls() -> None:
    measure(SECONDS, 50)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measure(SECONDS, 1000)
