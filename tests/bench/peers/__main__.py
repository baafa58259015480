"""The gate beside its peers, under the same load on one machine, in one table.

    make bench-peers      # the first table: three sizes, and 100 messages a second
    make bench-shapes     # the second: TLS, recipients, connections, keys
    make bench-growth     # the third: what must not grow with size
    make bench-peers ARGS="--sizes 4k --repeats 1 --peers smtpgate,postfix-opendkim"

The load logs in, and submits over several connections; each peer signs with DKIM and relays to
a sink that counts. The peers are measured in turn, round for round. Compare only what one table
has. A run during which other processes used the CPU is repeated. The exit status is 1 when a
peer could not run or a message was lost.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.bench.peers import growth, shapes
from tests.bench.peers.direct import DIRECT
from tests.bench.peers.gate import GATE, GATE_2_WORKERS, GATE_IN_A_FLEET
from tests.bench.peers.haraka import HARAKA
from tests.bench.peers.load import Load
from tests.bench.peers.messages import SIZES
from tests.bench.peers.peer import Peer
from tests.bench.peers.postfix import POSTFIX_OPENDKIM, POSTFIX_RSPAMD
from tests.bench.peers.results import record, section
from tests.bench.peers.run import Bench, Effort, Row, measure, open_bench
from tests.bench.peers.table import has_failed, table

PEERS: Final = {
    peer.name: peer
    for peer in (
        GATE,
        GATE_2_WORKERS,
        GATE_IN_A_FLEET,
        POSTFIX_OPENDKIM,
        POSTFIX_RSPAMD,
        HARAKA,
        DIRECT,
    )
}
_TITLES: Final = {"4k": "4 KiB", "64k": "64 KiB", "1m": "1 MiB"}
_SHORT: Final = Effort(seconds=2, repeats=1, extra=0)


def _loads(given: argparse.Namespace) -> list[Load]:
    loads = [Load(_TITLES[size], size) for size in given.sizes.split(",")]
    if given.rate:
        loads.append(Load("4 KiB", "4k", connections=32, rate_per_s=given.rate))
    return loads


def _peers(bench: Bench, given: argparse.Namespace, peers: list[Peer]) -> list[Row]:
    return measure(bench, peers, _loads(given))


def _shapes(bench: Bench, given: argparse.Namespace, peers: list[Peer]) -> list[Row]:
    del given
    return shapes.measure_all(bench, peers)


def _growth(bench: Bench, given: argparse.Namespace) -> list[growth.Step]:
    return growth.measure_all(
        bench,
        growth.Bounds(identities=given.max_identities, records=given.max_records),
        Path(given.folder) if given.folder else None,
        given.only,
    )


Measure = Callable[[Bench, argparse.Namespace, list[Peer]], list[Row]]
_TABLES: Final[dict[str, tuple[str, Measure, tuple[Peer, ...]]]] = {
    "peers": (
        "the gate beside its peers",
        _peers,
        (GATE, GATE_2_WORKERS, POSTFIX_OPENDKIM, POSTFIX_RSPAMD, HARAKA),
    ),
    "shapes": (
        "other loads",
        _shapes,
        (GATE, POSTFIX_OPENDKIM, POSTFIX_RSPAMD),
    ),
}


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", nargs="?", default="peers", choices=[*_TABLES, "growth"])
    parser.add_argument("--peers", help=f"of {', '.join(PEERS)}; comma-separated")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of the first table")
    parser.add_argument("--rate", type=float, default=100, help="messages/s; 0 omits that load")
    parser.add_argument("--seconds", type=float, help="of a run; 2.5, or 2 in the other tables")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--extra", type=int, default=12, help="disturbed runs to repeat, in all"
    )
    parser.add_argument("--max-identities", type=int, default=1_000_000, help="third table")
    parser.add_argument("--max-records", type=int, default=100_000, help="third table")
    parser.add_argument(
        "--only", help="identities, policies, connections or journal; third table"
    )
    parser.add_argument("--folder", help="room for databases: 3 kB an identity or record")
    parser.add_argument(
        "--record", action="store_true", help="append to tests/bench/results.md"
    )
    parser.add_argument("--short", action="store_true", help="show that it runs: one run each")
    given = parser.parse_args()
    unknown = [name for name in (given.peers or "").split(",") if name and name not in PEERS]
    unknown += [size for size in given.sizes.split(",") if size not in SIZES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return given


def _effort(given: argparse.Namespace) -> Effort:
    seconds = given.seconds or (2.5 if given.table == "peers" else 2.0)
    effort = Effort(seconds, given.repeats, given.extra)
    return replace(_SHORT, seconds=min(_SHORT.seconds, seconds)) if given.short else effort


def _measure(given: argparse.Namespace) -> tuple[str, str, list[Peer], int]:
    """The title and the text of the table, its peers, and the exit status."""
    with open_bench(_effort(given)) as bench:
        if given.table == "growth":
            steps = _growth(bench, given)
            text, peers, rows = growth.table(steps), [GATE], [step.row for step in steps]
            return "what grows", text, peers, int(any(map(has_failed, rows)))
        title, measured, default = _TABLES[given.table]
        peers = [PEERS[name] for name in given.peers.split(",")] if given.peers else [*default]
        rows = measured(bench, given, peers)
    return title, table(rows), peers, int(any(map(has_failed, rows)))


def main() -> int:
    """Measure, print the table, and keep it when asked to."""
    given = _parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the daemons are stopped too
    title, text, peers, status = _measure(given)
    print(text)
    if given.record:
        record(section(title, text, peers))
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except pytest.skip.Exception as reason:
        sys.exit(f"skipped: {reason}")
