"""The gate beside a peer, measured by a benchmark folder's own load generator and tables.

    .venv/bin/python tests/bench/side_by_side.py --bench DIR --sizes 4k,64k --seconds 3

DIR holds ``bench.py``, ``loadgen.c`` and ``gen_messages.py``: it starts each peer between an
authenticated load generator and smtp-sink on loopback, and counts the CPU time of the peer's
processes. This script adds the gate as one more peer, with all stages on (AUTH, policies of
user and identity, limits, RSA-2048 DKIM, a log line a message), and runs them one after the
other. Compare only what one run printed. Needs root, and Debian's postfix, opendkim, sasl2-bin,
libsasl2-modules, gcc and openssl.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT))  # for a start as a script

from tests.bench.peers.gate import LOGIN, Contents, Ports, write_gate  # noqa: E402
from tests.support.daemons import free_port  # noqa: E402

_GATE: Final = "smtpgate"


def _load(folder: Path) -> ModuleType:
    sys.dont_write_bytecode = True  # the folder may be read-only, and is not ours
    spec = importlib.util.spec_from_file_location("smtp_bench", folder / "bench.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"no benchmark in {folder}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def add_gate(bench: ModuleType) -> None:
    """Make the gate one of the benchmark's peers, with the login that it derives."""

    peer_class: type[Any] = bench.Peer

    class SmtpGate(peer_class):  # type: ignore[misc]  # known at run time only
        """The gate, started as an operator does."""

        user = LOGIN.username
        secret = LOGIN.password

        def start(self) -> None:
            config = write_gate(
                self.dir,
                Contents({"perf": bench.KEY.read_bytes()}),
                Ports(bench.PORT, free_port(), bench.SINK),
                workers=1,
            )
            self.up([sys.executable, "-m", "smtpgate", "serve", "--config", config], cwd=_ROOT)
            bench.wait_port(bench.PORT)

    generator_command = bench.load

    def load(peer: object, *numbers: float) -> list[str]:
        command: list[str] = generator_command(peer, *numbers)
        if isinstance(peer, SmtpGate):
            command[command.index("-w") + 1] = peer.secret
        return command

    bench.PEERS[_GATE] = SmtpGate
    setattr(bench, "load", load)  # noqa: B010 - mypy knows no such attribute of a module


def main() -> None:
    """Run the gate and its peers one after the other, and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", type=Path, required=True, metavar="DIR")
    parser.add_argument("--peers", default="postfix-opendkim", help="comma-separated")
    parser.add_argument("--out", type=Path, help="where the runs go, one JSON line each")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check the signatures at the sink, measure nothing",
    )
    ours, theirs = parser.parse_known_args()
    bench = _load(ours.bench.resolve())
    add_gate(bench)
    out = ours.out or bench.PERF / f"side-by-side-{os.getpid()}.jsonl"
    peers = [_GATE, *filter(None, ours.peers.split(","))]
    if ours.verify:
        sys.argv = ["bench.py", "verify", *peers, *theirs]
        bench.main()
        return
    sys.argv = ["bench.py", "run", *peers, "--out", str(out), *theirs]
    bench.main()
    print(f"\n{out}")
    bench.table(out)


if __name__ == "__main__":
    main()
