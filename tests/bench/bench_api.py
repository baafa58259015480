"""The cost of a call: CPU time of the gate for SendRawEmail and GetSendQuota, beside SMTP.

    .venv/bin/python -m tests.bench.bench_api
    .venv/bin/python -m tests.bench.bench_api --beside ../other --rounds 5
    .venv/bin/python -m tests.bench.bench_api --profile

Requests are signed beforehand, and connections are kept, as AWS's clients keep them. The goals:
SendRawEmail of 4 KiB costs at most 0.6 ms more than the same message by SMTP, GetSendQuota less
than 0.5 ms, and a thousand connections without a request cost nothing. ``--beside`` measures
the gate of another checkout in turn, round for round: compare only such figures. ``--profile``
shows where the time of each call goes, as in ``bench_path``. As a test it is short.
"""

import argparse
import asyncio
import base64
import hashlib
import os
import resource
import statistics
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
from tests.bench.bench_path import _Clients, _clients, _cpu_s, _RunningGate, print_profile
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
# For the one call that each of them makes, on a machine that has much else to do.
_PATIENCE_S: Final = 120.0
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


def start(lab: Lab, sink_port: int, tree: Path = ROOT) -> Gate:
    """Start a gate of that checkout with its own interpreter."""
    folder, api_port = lab.new_folder("gate"), free_port()
    ports = Ports(free_port(), free_port(), sink_port)
    contents = Contents(
        {"perf": generate_private_key("rsa")}, sections=_SECTION.format(port=api_port)
    )
    config = write_gate(folder, contents, ports, workers=1)
    accounts = next(folder.rglob("accounts.toml"))
    accounts.write_text(accounts.read_text() + _ROOT_KEY)
    daemon = lab.start(
        tree.name,
        [
            str(tree / ".venv/bin/python"),
            "-P",
            "-m",
            "smtpgate",
            "serve",
            "--config",
            str(config),
        ],
        folder / "log",
        ready=partial(listens, api_port),
        env=os.environ | {"PYTHONPATH": str(tree)},
    )
    return Gate(_RunningGate(tree.name, daemon.process.pid, ports.smtp), api_port)


async def _ask(port: int, requests: Sequence[bytes], until: float) -> int:
    """Send one request after the other on a connection, one at least; how many had a reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while not answered or time.monotonic() < until:
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
        async with asyncio.timeout(seconds + _PATIENCE_S):
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


def _calls() -> dict[str, dict[str, str]]:
    """The parameters of the calls that are measured."""
    raw, sent = base64.b64encode(_message()).decode(), {"Source": SENDER}
    return {
        "SendRawEmail": {
            **sent,
            "Action": "SendRawEmail",
            "Destinations.member.1": "jane@example.net",
            "RawMessage.Data": raw,
        },
        "SendEmail": {
            **sent,
            "Action": "SendEmail",
            "Destination.ToAddresses.member.1": "jane@example.net",
            "Message.Subject.Data": "Hello",
            "Message.Body.Text.Data": ("x" * 70 + "\n") * (_OCTETS // 72),
        },
        "GetSendQuota": {"Action": "GetSendQuota"},
    }


def _costs(gate: Gate, clients: _Clients, seconds: float) -> dict[str, float]:
    """CPU milliseconds of a message by SMTP, and of each call."""
    return {"SMTP": clients.cost_ms(gate.of_smtp)} | {
        name: cost_ms(gate, gate.request(parameters), seconds)
        for name, parameters in _calls().items()
    }


def measure(
    trees: Sequence[Path], seconds: float, connections: int, *, rounds: int, profiled: bool
) -> None:
    """Measure the gates of these checkouts in turn, and print a line for each figure."""
    with Lab() as lab, open_sink(lab, (programs := compiled(lab.folder)).sink) as sink:
        clients = _clients(lab, programs.load, _OCTETS, seconds)
        gates = [start(lab, sink.port, tree) for tree in trees]
        for gate in gates:
            _ = _costs(gate, clients, min(seconds, 1.0))  # warm up
        taken = [[_costs(gate, clients, seconds) for gate in gates] for _ in range(rounds)]
        for gate, costs in zip(gates, zip(*taken, strict=True), strict=True):
            _print(gate, costs)
        if len(gates) > 1:
            _print_ratios(taken)
        _print_idle(gates[0], seconds, connections)
        if profiled:
            for name, parameters in _calls().items():
                load = partial(cost_ms, gates[0], gates[0].request(parameters), seconds)
                print(f"  {name}")
                process_id = gates[0].of_smtp.process_id
                print_profile(process_id, load, seconds, lab.folder / name)


def _print(gate: Gate, costs: Sequence[dict[str, float]]) -> None:
    print(f"  {gate.of_smtp.name}: CPU ms, the median")
    for name in costs[0]:
        each = [cost[name] for cost in costs]
        more = statistics.median(cost[name] - cost["SMTP"] for cost in costs)
        beside = f" ({more:+.3f} to SMTP)" if name.startswith("Send") else ""
        shown = " ".join(f"{one:.3f}" for one in each)
        print(f"  {name:13} {statistics.median(each):.3f}{beside}   ({shown})")


def _print_ratios(taken: Sequence[Sequence[dict[str, float]]]) -> None:
    """The first checkout divided by each other one, of the same round."""
    for name in taken[0][0]:
        for other in range(1, len(taken[0])):
            ratios = [costs[0][name] / costs[other][name] for costs in taken]
            shown = " ".join(f"{one:.3f}" for one in ratios)
            print(f"  ratio {name:13} {statistics.median(ratios):.3f}   ({shown})")


def _print_idle(gate: Gate, seconds: float, connections: int) -> None:
    process_id = gate.of_smtp.process_id
    none = asyncio.run(_idle(gate.api_port, 0, seconds, process_id))
    many = asyncio.run(_idle(gate.api_port, connections, seconds, process_id))
    print(
        f"  idle          {none * 1e3:.1f} ms CPU a second, {many * 1e3:.1f} with "
        f"{connections} connections"
    )


def test_calls() -> None:
    measure([ROOT], SECONDS, 50, rounds=1, profiled=False)


def main() -> None:
    """Measure this checkout, beside another one if there is one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beside", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measure(
        [ROOT, *(tree.resolve() for tree in options.beside)],
        options.seconds,
        options.connections,
        rounds=options.rounds,
        profiled=options.profile,
    )


if __name__ == "__main__":
    main()
