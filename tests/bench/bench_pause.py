"""Pauses of a gate and their causes: by its own histograms, and for a client.

Each measurement has a gate of its own process that relays mail meanwhile, and a session that
sends a NOOP every two milliseconds. Printed, not judged. ``SMTPGATE_BENCH_SECONDS`` is the
length of each measurement (4; 0.5 shows that it runs). On a machine with less than four cores
the clients delay the gate, and its scheduling is in all of the figures; the collector's are
its own.
"""

import asyncio
import multiprocessing
import re
import signal
import smtplib
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import pytest

from tests.bench.bench_hostile import SECONDS, attacked, noops_s, show
from tests.bench.bulk import Size, fill
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab
from tests.support.directory import open_store, sqlite_in
from tests.support.gate import ACCOUNTS, BOUNCES_TO, LOGIN, Gate, GatePlan, letter, start_gate
from tests.support.smtpsink import smtp_sink

pytestmark = pytest.mark.bench

IS_SHORT: Final = SECONDS < 2
PATIENCE_S: Final = 300
CACHE_OCTETS: Final = 512 * 1024 * 1024
_BUCKET: Final = re.compile(r"(smtpgate_(?:loop|coll)\w+)_bucket\{(.*)le=\"(.*)\"\} (.*)")


def scrape(gate: Gate) -> str:
    """The gate's metrics."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{gate.plan.http_port}/metrics") as answer:
        text: bytes = answer.read()
    return text.decode()


def value(gate: Gate, name: str) -> float:
    """One metric without labels."""
    (line,) = (one for one in scrape(gate).splitlines() if one.startswith(f"{name} "))
    return float(line.split()[1])


Histogram = dict[float, float]


def histograms(gate: Gate) -> dict[str, Histogram]:
    """The cumulated buckets of delays and of the collector's pauses, by their names."""
    found: dict[str, Histogram] = {}
    for line in scrape(gate).splitlines():
        match = _BUCKET.fullmatch(line)
        if match is not None:
            generation = re.sub(r"\D", "", match[2])
            name = f"collector, generation {generation}" if generation else "event loop"
            found.setdefault(name, {})[float(match[3])] = float(match[4])
    return found


def _bound(histogram: Histogram, share: float) -> str:
    """The upper bound, in milliseconds, of that share of what was observed."""
    wanted = histogram[float("inf")] * share
    bound = next(bound for bound, count in sorted(histogram.items()) if count >= wanted)
    return f"{bound * 1e3:g}"


def _show_difference(before: dict[str, Histogram], after: dict[str, Histogram]) -> None:
    for name, histogram in after.items():
        seen = {bound: count - before[name][bound] for bound, count in histogram.items()}
        if seen[float("inf")]:
            bounds = ", ".join(
                f"{what} <= {_bound(seen, share)}"
                for what, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
            )
            print(f"    {name}: {seen[float('inf')]:.0f} times, {bounds} ms")


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


@contextmanager
def measured(note: str, gate: Gate, authority: Authority) -> Iterator[None]:
    """Print how long the gate stood still meanwhile."""
    before, until = histograms(gate), threading.Event()
    noops: list[tuple[list[float], int]] = []
    client = threading.Thread(
        target=lambda: noops.append(noops_s(gate, authority, until.is_set))
    )
    client.start()
    try:
        yield
    finally:
        until.set()
        client.join(60)
    print()
    show(note, *noops[0])
    _show_difference(before, histograms(gate))


@dataclass(frozen=True, slots=True)
class World:
    """The load of a gate."""

    size: Size | None = None
    series: int = 0

    def names(self) -> list[str]:
        """All identities with 20 policies, and a third of the others."""
        if self.size is None:
            return []
        full = [self.size.name(one) for one in self.size.numbers("20 policies of 4 KB")]
        return [*full, *(self.size.name(one) for one in range(self.size.identities // 3))]


EMPTY: Final = World()


@contextmanager
def a_gate(world: World = World()) -> Iterator[tuple[Gate, Authority]]:
    """A gate whose directory has that much."""
    with Lab() as lab:
        authority = Authority(lab)
        names, url = lab.new_folder("names") / "names", None
        names.write_text("\n".join(world.names()))
        if world.size is not None:
            url = sqlite_in(lab.new_folder("database"))
            asyncio.run(_filled(url, world.size))
        plan = GatePlan(
            smtp_sink(lab, dump=False).port,
            directory_url=url,
            more_of_directory=f"cache_octets = {CACHE_OCTETS}\n",
            program=("tests.bench.watched_gate", str(names), str(world.series)),
        )
        yield start_gate(lab, authority, plan), authority


async def _filled(url: str, size: Size) -> None:
    async with open_store(url) as store:
        await fill(store, size)


def test_mail_alone() -> None:
    with a_gate() as (gate, authority), mail(gate), measured("mail", gate, authority):
        time.sleep(SECONDS)


def test_a_cache_that_is_filled_and_full() -> None:
    size = Size(200, 2_000) if IS_SHORT else Size(6_000, 60_000)
    world = World(size)
    entries = len(set(world.names()))
    with a_gate(world) as (gate, authority), mail(gate):
        with measured(f"mail while {entries} answers are loaded", gate, authority):
            gate.daemon.signal(signal.SIGUSR2)
            _until(lambda: value(gate, "smtpgate_directory_cache_entries") >= entries * 0.8)
        octets = value(gate, "smtpgate_directory_cache_octets")
        with measured(f"mail beside {octets / 2**20:.0f} MiB of answers", gate, authority):
            time.sleep(SECONDS * 3)


def test_scrapes_with_a_thousand_identities() -> None:
    with a_gate(World(series=1000)) as (gate, authority), mail(gate), ExitStack() as stack:
        stack.enter_context(measured("mail and scrapes", gate, authority))
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            scrape(gate)
            time.sleep(0.1)


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


def _documents(gate: Gate) -> Path:
    config = gate.daemon.log_file.parent / "smtpgate.toml"
    match = re.search(r'apply = "(.*)"', config.read_text())
    assert match is not None
    return Path(match[1]) / "accounts.toml"


def _accounts(count: int) -> str:
    return "".join(
        f'[accounts.{10**11 + one}]\nname = "Tenant {one}"\n'
        f'[accounts.{10**11 + one}.identities."t{one}.example"]\nverified = true\n'
        for one in range(count)
    )


def _applied(gate: Gate) -> list[int]:
    return [line["steps"] for line in gate.log_lines() if line["event"] == "directory applied"]


def _has_applied(gate: Gate, times: int) -> bool:
    return len(_applied(gate)) >= times


def test_a_reload_of_many_steps() -> None:
    count = 500 if IS_SHORT else 25_000
    with a_gate() as (gate, authority), mail(gate):
        documents = _documents(gate)
        documents.write_text(ACCOUNTS + _accounts(count))
        for note in (f"mail during a reload with {2 * count} steps", "and one without steps"):
            number = len(_applied(gate))
            with measured(note, gate, authority):
                gate.daemon.signal(signal.SIGHUP)
                _until(partial(_has_applied, gate, number + 1))
                time.sleep(1)
            print(f"    steps: {_applied(gate)[-1]}")


@pytest.mark.parametrize(
    ("kind", "count"), [("commands", 20), ("errors", 20), ("silence", 300)]
)
def test_floods_of_commands_and_connections(kind: str, count: int) -> None:
    with a_gate() as (gate, authority), mail(gate), ExitStack() as stack:
        stack.enter_context(attacked(gate.port, [kind] * count))
        stack.enter_context(measured(f"mail and {count} times {kind}", gate, authority))
        time.sleep(SECONDS)


def test_a_message_of_very_many_fields() -> None:
    fields = "".join(f"List-Unsubscribe: <https://example.com/{one}>\r\n" for one in range(950))
    with a_gate() as (gate, authority), mail(gate, fields), ExitStack() as stack:
        stack.enter_context(measured("messages of 950 fields", gate, authority))
        time.sleep(SECONDS)
