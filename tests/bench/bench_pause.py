"""Pauses of a gate and their causes, in one table.

    .venv/bin/python -m tests.bench.bench_pause --record     # keeps the table in results.md
    .venv/bin/python -m tests.bench.bench_pause --only cache,changes --record    # as long
    .venv/bin/python -m tests.bench.bench_pause --only scrapes,floods --workers 1,2
    .venv/bin/python -m tests.bench.bench_pause --where      # and what the loop did in them

Each cause has a gate of its own that relays mail meanwhile, and a session that sends a NOOP
every two milliseconds. ``turns.py`` measures the longest pauses: on the clock; less the time in
which the gate's process was ready and had no processor; and of CPU time. NOOPs and the clock
include what the clients take on a machine with few cores. Printed, not judged. As a test each
cause is short, and shows that it runs.
"""

import argparse
import asyncio
import multiprocessing
import os
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import pytest

from tests.bench.bench_hostile import FLOODS, attacked, noops_s
from tests.bench.bench_large import Uploads, upstream
from tests.bench.bulk import Size, fill
from tests.bench.crowd import crowd
from tests.bench.peers.machine import description
from tests.bench.peers.results import commit, record
from tests.bench.turns import Turn, turns_in
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, free_port
from tests.support.directory import open_store, sqlite_in
from tests.support.gate import (
    ACCOUNTS,
    BOUNCES_TO,
    LOGIN,
    ROOT,
    Gate,
    GatePlan,
    letter,
    start_gate,
    workers_of,
)
from tests.support.reputations import pause_many

pytestmark = pytest.mark.bench

PATIENCE_S: Final = 300
CACHE_OCTETS: Final = 512 * 1024 * 1024
_BUCKET: Final = re.compile(r"smtpgate_collector_pause_seconds_bucket\{.*le=\"(.*)\"\} (.*)")


@dataclass(frozen=True, slots=True)
class Effort:
    """The extent of what is measured."""

    seconds: float = 3
    size: Size = Size(6_000, 60_000)  # noqa: RUF009 - frozen
    steps: int = 50_000
    uploads: int = 20
    octets: int = 40_000_000
    clients: int = 300
    senders: int = 10_000


_SHORT: Final = Effort(0.5, Size(200, 2_000), 1_000, 2, 4_000_000, 50, 500)


@dataclass(frozen=True, slots=True)
class Row:
    """The pauses of one cause."""

    cause: str
    workers: int
    noops_s: list[float]
    turns: list[Turn]
    collector_s: float

    def cells(self) -> list[str]:
        """The row of the table."""
        noops = sorted(self.noops_s)
        p50, p99 = (noops[int(len(noops) * share)] * 1e3 for share in (0.5, 0.99))
        kinds = ("late_s", "own_s", "cpu_s")
        longest = [max((getattr(one, of) for one in self.turns), default=0) for of in kinds]
        return [
            self.cause,
            str(self.workers),
            *(f"{one * 1e3:.1f}" for one in longest),
            f"{self.collector_s * 1e3:g}",
            f"{p50:.2f}",
            f"{p99:.1f}",
            f"{noops[-1] * 1e3:.1f}",
        ]


_HEADS: Final = (
    "cause",
    "workers",
    "longest pause ms",
    "without waits for a processor",
    "CPU",
    "collector <=",
    "NOOP p50",
    "p99",
    "longest",
)


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [_HEADS, ("---",) * len(_HEADS), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


# -- a gate under load -------------------------------------------------------------------------


def scrape(gate: Gate) -> str:
    """The gate's metrics."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{gate.plan.http_port}/metrics") as answer:
        text: bytes = answer.read()
    return text.decode()


def value(gate: Gate, name: str) -> float:
    """One metric without labels."""
    (line,) = (one for one in scrape(gate).splitlines() if one.startswith(f"{name} "))
    return float(line.split()[1])


def _collections(gate: Gate) -> list[tuple[float, float]]:
    found = map(_BUCKET.fullmatch, scrape(gate).splitlines())
    return [(float(one[1]), float(one[2])) for one in found if one is not None]


def _longest_collection_s(before: list[tuple[float, float]], gate: Gate) -> float:
    """The upper bound of the longest collection since then."""
    longest, last = 0.0, 0.0
    for (bound, now), (_, then) in zip(_collections(gate), before, strict=True):
        count = now - then
        if count > last:
            longest = max(longest, bound)
        last = 0.0 if bound == float("inf") else count
    return longest


def _send(port: int, more_fields: str, stop: Event) -> None:
    number = 0
    while not stop.is_set():
        with suppress(smtplib.SMTPException, OSError), smtplib.SMTP(LOOPBACK, port) as client:
            client.esmtp_features["auth"] = "PLAIN"
            client.starttls()
            client.login(LOGIN.username, LOGIN.password)
            while not stop.is_set():
                number += 1
                content = letter(f"n{number}", "Hello.\r\n" * 400, more_fields=more_fields)
                client.sendmail(BOUNCES_TO, ["bob@example.net"], content)
                time.sleep(0.005)


@contextmanager
def mail(gate: Gate, more_fields: str = "") -> Iterator[None]:
    """Meanwhile a client of its own process sends messages."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    process = spawn.Process(target=_send, args=(gate.port, more_fields, stop))
    process.start()
    try:
        time.sleep(1)
        yield
    finally:
        stop.set()
        process.join(30)


@dataclass(frozen=True, slots=True)
class World:
    """The load of a gate."""

    size: Size | None = None
    series: int = 0
    paused: int = 0  # so many accounts are paused for their rates

    def names(self) -> list[str]:
        """All identities with 20 policies, and a third of the others."""
        if self.size is None:
            return []
        full = [self.size.name(one) for one in self.size.numbers("20 policies of 4 KB")]
        return [*full, *(self.size.name(one) for one in range(self.size.identities // 3))]


EMPTY: Final = World()


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures causes with so many workers, and collects the rows."""

    effort: Effort
    workers: int
    rows: list[Row] = field(default_factory=list)
    is_asking_where: bool = False

    @contextmanager
    def gate(self, world: World = EMPTY) -> Iterator["Watched"]:
        """A gate whose directory has that much."""
        with Lab() as lab, upstream() as port:
            authority = Authority(lab)
            folder = lab.new_folder("watched")
            names, turns, url = folder / "names", folder / "turns", None
            names.write_text("\n".join(world.names()))
            turns.touch()
            if world.size is not None or world.paused:
                url = sqlite_in(lab.new_folder("database"))
                asyncio.run(_filled(url, world))
            words = (str(names), str(world.series), str(turns))
            plain = free_port()
            plan = GatePlan(
                port,
                directory_url=url,
                more_of_directory=f"cache_octets = {CACHE_OCTETS}\n",
                sections=_PLAIN_LISTENER.format(port=plain),
                workers=self.workers,
                program=("tests.bench.watched_gate", *words),
            )
            yield Watched(self, start_gate(lab, authority, plan), authority, turns, plain)


_PLAIN_LISTENER: Final = (
    '[listener.plain]\naddress = "127.0.0.1"\nport = {port}\ntls = "none"\n'
    "allow_plaintext_auth = true\n"
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A gate that records its long turns."""

    bench: Bench
    gate: Gate
    authority: Authority
    turns: Path
    plain_port: int

    @contextmanager
    def measured(self, cause: str) -> Iterator[None]:
        """Measure how long the gate stands still meanwhile."""
        before, until = _collections(self.gate), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            since_s = time.monotonic()
            noops = pool.submit(noops_s, self.gate, self.authority, until.is_set)
            try:
                yield
            finally:
                until_s = time.monotonic()
                until.set()
        collector_s = _longest_collection_s(before, self.gate)
        turns = list(turns_in(self.turns, since_s, until_s))
        row = Row(cause, self.bench.workers, noops.result()[0], turns, collector_s)
        self.bench.rows.append(row)
        print(" | ".join(row.cells()), flush=True)
        if self.bench.is_asking_where:
            _show_where(turns)

    def pids(self) -> list[int]:
        """The processes that take mail."""
        return list(workers_of(self.gate).values()) or [self.gate.daemon.process.pid]


def _show_where(turns: list[Turn]) -> None:
    for turn in sorted(turns, key=lambda turn: turn.cpu_s, reverse=True)[:5]:
        times = f"{turn.late_s * 1e3:.1f} {turn.own_s * 1e3:.1f} {turn.cpu_s * 1e3:.1f} ms"
        print(f"    {times} of {turn.process}: {turn.where}")


async def _filled(url: str, world: World) -> None:
    async with open_store(url) as store:
        if world.size is not None:
            await fill(store, world.size)
        if world.paused:
            await pause_many(store, [f"{10**11 + one}" for one in range(world.paused)])


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


# -- the causes --------------------------------------------------------------------------------


def _mail(bench: Bench) -> None:
    with bench.gate() as watched, mail(watched.gate), watched.measured("mail alone"):
        time.sleep(bench.effort.seconds)


def _cache(bench: Bench) -> None:
    """A cache that is filled, and full; each worker has one of its own."""
    world = World(bench.effort.size)
    entries = len(set(world.names()))
    policies = 20 * len(bench.effort.size.numbers("20 policies of 4 KB"))
    with bench.gate(world) as watched, mail(watched.gate):
        gate = watched.gate
        what = f"{entries} identities, {policies} policies of 3.5 KB"
        with watched.measured(f"a cache is filled: {what}"):
            for pid in watched.pids():
                os.kill(pid, signal.SIGUSR2)
            least = entries * 0.8 * len(watched.pids())
            _until(lambda: value(gate, "smtpgate_directory_cache_entries") >= least)
        octets = value(gate, "smtpgate_directory_cache_octets")
        with watched.measured(f"a full cache: {octets / 2**20:.0f} MiB"):
            time.sleep(bench.effort.seconds * 2)


def _scrapes(bench: Bench) -> None:
    cause, world = "scrapes of 1,000 identities", World(series=1000)
    with bench.gate(world) as watched, mail(watched.gate), watched.measured(cause):
        until = time.monotonic() + bench.effort.seconds
        while time.monotonic() < until:
            scrape(watched.gate)
            time.sleep(0.1)


def _config(gate: Gate) -> Path:
    return gate.daemon.log_file.parent / "smtpgate.toml"


def _documents(gate: Gate) -> Path:
    match = re.search(r'apply = "(.*)"', _config(gate).read_text())
    assert match is not None
    return Path(match[1]) / "accounts.toml"


def _accounts(first: int, count: int) -> str:
    """Accounts with an identity each: two steps."""
    return "".join(
        f'[accounts.{10**11 + one}]\nname = "Tenant {one}"\n'
        f'[accounts.{10**11 + one}.identities."t{one}.example"]\nverified = true\n'
        for one in range(first, first + count)
    )


def _has_applied(gate: Gate, times: int) -> bool:
    lines = gate.log_lines()
    return len([line for line in lines if line["event"] == "directory applied"]) > times


def _changes(bench: Bench) -> None:
    """A change of many steps by a reload, and by a command."""
    steps = bench.effort.steps
    with bench.gate() as watched, mail(watched.gate):
        gate = watched.gate
        documents = _documents(gate)
        documents.write_text(ACCOUNTS + _accounts(0, steps // 2))
        for times, number in enumerate((steps, 0), start=1):
            with watched.measured(f"SIGHUP with {number} steps"):
                gate.daemon.signal(signal.SIGHUP)
                _until(partial(_has_applied, gate, times))
                time.sleep(1)
        documents.write_text(ACCOUNTS + _accounts(steps // 2, steps // 2))
        with watched.measured(f"smtpgate apply with {steps} steps"):
            _apply(gate, documents.parent)
            time.sleep(1)


def _apply(gate: Gate, documents: Path) -> None:
    words = ["apply", str(documents), "--config", str(_config(gate))]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "smtpgate", *words]
    subprocess.run(command, env=env, check=True, timeout=PATIENCE_S, stdout=subprocess.DEVNULL)


def _floods(bench: Bench) -> None:
    floods = {f"{count} floods of {kind}": [kind] * count for kind, count in _FLOODS}
    floods[f"{15 * len(FLOODS)} floods of all kinds"] = list(FLOODS) * 15
    with bench.gate() as watched, mail(watched.gate):
        for cause, kinds in floods.items():
            with attacked(watched.gate.port, kinds), watched.measured(cause):
                time.sleep(bench.effort.seconds)


_FLOODS: Final = (("commands", 20), ("commands", 90), ("errors", 90), ("silence", 300))


def _fields(bench: Bench) -> None:
    fields = "".join(f"List-Unsubscribe: <https://example.com/{one}>\r\n" for one in range(950))
    with ExitStack() as stack:
        watched = stack.enter_context(bench.gate())
        stack.enter_context(mail(watched.gate, fields))
        stack.enter_context(watched.measured("messages of 950 fields"))
        time.sleep(bench.effort.seconds)


def _uploads(bench: Bench) -> None:
    sizes = [(bench.effort.uploads, bench.effort.octets), (50, 1_000_000)]
    with bench.gate() as watched, mail(watched.gate):
        for number, size in sizes:
            for kind in ("plain", "TLS"):
                port = watched.gate.tls_port if kind == "TLS" else watched.plain_port
                ca_file = str(watched.authority.ca_file) if kind == "TLS" else None
                cause = f"{number} uploads of {size / 1e6:g} MB, {kind}"
                uploads = Uploads(port, number, size, ca_file)
                with watched.measured(cause):
                    uploads.process.start()
                    accepted = uploads.accepted()
                assert accepted == number


def _judgement(bench: Bench) -> None:
    """The first round of judgements, a second after the start, with many paused senders."""
    world = World(paused=bench.effort.senders)
    cause = f"a first look at {world.paused} paused senders"
    with bench.gate(world) as watched, watched.measured(cause):
        time.sleep(bench.effort.seconds + 2)


def _crowds(bench: Bench) -> None:
    """Clients that all do the same in the same moment."""
    with bench.gate() as watched:
        tls = {"port": watched.gate.tls_port, "ca_file": str(watched.authority.ca_file)}
        plain = {"port": watched.plain_port, "ca_file": None}
        for count, what, stays, how in (
            (bench.effort.clients, "send at once", True, plain),
            (bench.effort.clients, "connect at once", False, plain),
            (bench.effort.clients // 3, "connect at once, TLS", False, tls),
        ):
            with watched.measured(f"{count} clients {what}"):
                rounds = crowd(stays=stays, count=count, seconds=bench.effort.seconds, **how)
            assert rounds


CAUSES: Final[dict[str, Callable[[Bench], None]]] = {
    "mail": _mail,
    "uploads": _uploads,
    "crowds": _crowds,
    "cache": _cache,
    "changes": _changes,
    "scrapes": _scrapes,
    "floods": _floods,
    "fields": _fields,
    "judgement": _judgement,
}


# They take more than a minute each.
_LONG: Final = ("cache", "changes")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cause", CAUSES)
def test_pauses(cause: str, workers: int) -> None:
    CAUSES[cause](Bench(_SHORT, workers))


def main() -> None:
    """Measure the causes, print the table, and keep it when asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    short = [cause for cause in CAUSES if cause not in _LONG]
    parser.add_argument("--only", default=",".join(short), help=f"of {', '.join(CAUSES)}")
    parser.add_argument("--workers", default="1", help="comma-separated")
    parser.add_argument("--seconds", type=float, default=Effort().seconds, help="of a cause")
    parser.add_argument("--short", action="store_true", help="show that it runs")
    parser.add_argument("--where", action="store_true", help="show what the loop did")
    parser.add_argument("--record", action="store_true", help="append to results.md")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the gate is stopped too
    effort = _SHORT if given.short else replace(Effort(), seconds=given.seconds)
    if given.where:
        os.environ["SMTPGATE_BENCH_WHERE"] = "1"
    rows: list[Row] = []
    for workers in map(int, given.workers.split(",")):
        for cause in given.only.split(","):
            CAUSES[cause](Bench(effort, workers, rows, is_asking_where=given.where))
    print(f"\n{table(rows)}")
    if given.record:
        title = f"## {datetime.now(UTC).date()}: pauses of the event loop, by cause"
        record(f"\n{title}\n\nCommit {commit()}. {description()}.\n\n{table(rows)}")


if __name__ == "__main__":
    main()
