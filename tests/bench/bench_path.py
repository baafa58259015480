"""The cost of a message: CPU time of the gate over the whole path, with all stores on.

    .venv/bin/python -m tests.bench.bench_path --beside ../other --rounds 9
    .venv/bin/python -m tests.bench.bench_path --profile
    .venv/bin/python -m tests.bench.bench_path --workers 2

The gate is configured as an operator does (``peers/gate.py`` has the files), and is one process
unless ``--workers`` says otherwise; the CPU of the load and of the upstream does not count.
``--beside`` measures the gate of another checkout in turn, round for round: compare only such
figures, and the medians. ``--profile`` shows where the time goes, by py-spy (``pip install
py-spy``, as root). As a test it is short and shows that it runs.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from smtpgate.signing.private_keys import generate_private_key
from tests.bench.peers.gate import LOGIN, Contents, Ports, write_gate
from tests.bench.peers.load import GeneratorError, Load, Offer
from tests.bench.peers.messages import message
from tests.bench.peers.peer import SENDER, Running
from tests.bench.peers.programs import compiled
from tests.bench.peers.sink import open_sink
from tests.support.daemons import Lab, free_port, listens

pytestmark = pytest.mark.bench

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = float(os.environ.get("SMTPGATE_BENCH_SECONDS", "2"))
_SHOWN: Final = 45
_SAMPLES_A_SECOND: Final = 500


@dataclass(frozen=True)
class _RunningGate:
    name: str
    process_id: int
    port: int

    def cpu_s(self) -> float:
        """The CPU time so far of its process and of those that this one started."""
        return sum(map(_cpu_s, [self.process_id, *_children(self.process_id)]))


def _cpu_s(process_id: int) -> float:
    return time.clock_gettime((~process_id << 3) | 2)  # clock_getcpuclockid(3), on Linux


def _children(process_id: int) -> list[int]:
    tasks = Path(f"/proc/{process_id}/task").iterdir()
    own = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    return own + [one for child in own for one in _children(child)]


def _start(lab: Lab, tree: Path, sink_port: int, workers: int) -> _RunningGate:
    """Start the gate of that checkout with its own interpreter."""
    folder, key = lab.new_folder("gate"), generate_private_key("rsa")
    ports = Ports(free_port(), free_port(), sink_port)
    config = write_gate(folder, Contents({"perf": key}), ports, workers=workers)
    # -P: otherwise the folder that this runs in comes before PYTHONPATH.
    python = [tree / ".venv/bin/python", "-P", "-m"]
    command = [*map(str, python), "smtpgate", "serve", "--config", str(config)]
    env = os.environ | {"PYTHONPATH": str(tree)}
    daemon = lab.start(
        tree.name, command, folder / "log", ready=partial(listens, ports.smtp), env=env
    )
    return _RunningGate(tree.name, daemon.process.pid, ports.smtp)


@dataclass(frozen=True)
class _Clients:
    """The load that each gate gets in turn."""

    offer: Offer
    load: Load
    seconds: float

    def cost_ms(self, gate: _RunningGate) -> float:
        """CPU milliseconds a message."""
        to = Running(gate.port, LOGIN)
        with self.offer.start(self.load, to, seconds=self.seconds, run=1) as generator:
            before = gate.cpu_s()
            generator.begin()
            while not generator.has_printed(1.0):
                pass
            report = generator.report()
            if not report.accepted:
                raise GeneratorError(f"no message was accepted: {report.complaint}")
            time.sleep(0.1)  # what the gate does after the last reply belongs to it
            return (gate.cpu_s() - before) / report.accepted * 1e3


def _clients(lab: Lab, program: Path, octets: int, seconds: float) -> _Clients:
    folder = lab.new_folder("load")
    wire, senders = folder / "wire", folder / "senders"
    wire.write_bytes(message(octets))
    senders.write_text(f"{SENDER}\n")
    return _Clients(Offer(program, {"": wire}, senders), Load("path", size=""), seconds)


def measure(
    trees: list[Path],
    octets: int,
    rounds: int,
    *,
    seconds: float,
    profiled: bool,
    workers: int = 1,
) -> None:
    """Measure the gates of these checkouts in turn, and print what a message costs each."""
    costs: dict[str, list[float]] = {}
    with Lab() as lab, open_sink(lab, (programs := compiled(lab.folder)).sink) as sink:
        clients = _clients(lab, programs.load, octets, seconds)
        gates = [_start(lab, tree, sink.port, workers) for tree in trees]
        for gate in gates:
            clients.cost_ms(gate)  # warm up
        for _ in range(rounds):
            for gate in gates:
                costs.setdefault(gate.name, []).append(clients.cost_ms(gate))
        for name, taken in costs.items():
            each = " ".join(f"{one:.3f}" for one in taken)
            print(f"  {name:12} {statistics.median(taken):.3f} ms CPU a message   ({each})")
        if profiled:
            gate = gates[0]
            cost = partial(clients.cost_ms, gate)
            print_profile(gate.process_id, cost, seconds, lab.folder / "samples")


# -- where the time goes -----------------------------------------------------------------------


def print_profile(
    process_id: int, cost_of_load: Callable[[], float], seconds: float, samples: Path
) -> None:
    """Print the functions with the most time of their own, by py-spy.

    ``cost_of_load`` loads that process for so many seconds, and returns what one message or
    call cost in milliseconds. The samples are written to a file.
    """
    sampler = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    command = [sampler, "record", "--nonblocking", "-r", str(_SAMPLES_A_SECOND)]
    command += ["-d", str(int(seconds) + 1), "-f", "raw", "-o", str(samples)]
    command += ["-p", str(process_id)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        cost_ms = cost_of_load()
    own, total = Counter[str](), Counter[str]()
    for line in samples.read_text().splitlines():
        stack, _, samples_there = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] for frame in stack.split(";")]
        own[frames[-1]] += int(samples_there)
        total.update(dict.fromkeys(frames, int(samples_there)))
    us = cost_ms * 1e3 / max(1, own.total())
    print(f"  own us of each, with what it calls, of {cost_ms:.3f} ms")
    for function, number in own.most_common(_SHOWN):
        print(f"  {number * us:7.1f} {total[function] * us:7.1f}  {function}")


# -- as a test and as a program ----------------------------------------------------------------


@pytest.mark.parametrize("octets", [4096, 65536])
def test_message(octets: int) -> None:
    print(f"\n{octets // 1024} KiB")
    rounds = 1 if SECONDS < 1 else 5
    measure([ROOT], octets, rounds, seconds=SECONDS, profiled=False)


def main() -> None:
    """Measure this checkout, beside another one if there is one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beside", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--octets", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="with one process")
    options = parser.parse_args()
    trees = [ROOT, *(tree.resolve() for tree in options.beside)]
    measure(
        trees,
        options.octets,
        options.rounds,
        seconds=options.seconds,
        profiled=options.profile,
        workers=options.workers,
    )


if __name__ == "__main__":
    main()
