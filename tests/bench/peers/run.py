"""Peers under load: started, warmed up, measured several times, stopped."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import dkim
import pytest

from tests.bench.peers.load import GeneratorError, Load, Offer, Report
from tests.bench.peers.machine import (
    Meter,
    TimedSignatures,
    busy_s,
    cpu_of,
    meter,
    proportional,
    resident,
    tree,
)
from tests.bench.peers.messages import write_messages
from tests.bench.peers.peer import HOSTNAME, SENDER, Peer, Running, Setup, SigningKey
from tests.bench.peers.programs import Programs, compiled
from tests.bench.peers.sink import Counts, Sink, open_sink
from tests.support.authority import Authority
from tests.support.daemons import Lab

_LOG_TAIL: Final = 2000
_SAMPLE_S: Final = 0.5
_DELIVERY_WAIT_S: Final = 60.0
_SETTLE_S: Final = 0.1  # what a peer does after a delivery is part of the message's cost
_QUIET_S: Final = 2.0  # before a run that was disturbed is repeated
_WARM_UP_S: Final = 2.0  # the first time: caches, compilers
# CPU time that others may use: the kernel's own threads, and this program's measuring.
_OTHERS_S: Final = 0.1
_OTHERS_SHARE: Final = 0.06

RSA: Final = SigningKey("rsa")
ED25519: Final = SigningKey("ed25519")


class SignatureError(Exception):
    """A message reached the sink without the signatures that it must have."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a load."""

    report: Report
    delivered: Counts
    delivered_s: float  # until the sink had the last message
    cpu_s: float
    others_s: float
    whole_s: float
    resident: int
    proportional: int
    signature_ms: float  # during it

    @property
    def is_disturbed(self) -> bool:
        """True when processes that do not belong to the benchmark used the CPU."""
        return self.others_s > _OTHERS_S + _OTHERS_SHARE * self.whole_s

    @property
    def delivered_per_s(self) -> float:
        """Messages at the sink a second."""
        return self.delivered.messages / max(self.delivered_s, 1e-9)

    @property
    def cpu_ms(self) -> float:
        """CPU time of the peer's processes for a message; in seconds, for 1000."""
        return self.cpu_s * 1000 / max(self.report.accepted, 1)

    @property
    def signatures(self) -> float:
        """That time as RSA-2048 signatures of this machine."""
        return self.cpu_ms / self.signature_ms

    @property
    def loss(self) -> str:
        """The lost messages; empty when each accepted message arrived once."""
        accepted, arrived = self.report.accepted, self.delivered.messages
        if accepted == 0:
            return f"nothing accepted; {self.report.complaint}"
        if arrived != accepted:
            return f"{accepted} accepted, {arrived} delivered; {self.report.complaint}"
        if self.report.sum != self.delivered.sum:
            return f"{accepted} accepted and delivered, but not the same messages"
        return ""

    @property
    def complaint(self) -> str:
        """The errors of the run, also when nothing was lost."""
        return self.loss or self.report.complaint


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of a load with a peer, or the reason why there are none."""

    load: Load
    peer: Peer
    runs: tuple[Run, ...] = ()
    repeated: int = 0
    skipped: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Effort:
    """The length of a run, the runs of a row, and the disturbed runs to repeat in all."""

    seconds: float = 2.5
    repeats: int = 3
    extra: int = 12


class Bench:
    """The parts that all peers of a benchmark share; they run one after the other."""

    def __init__(self, programs: Programs, meter: Meter, folder: Path, effort: Effort) -> None:
        self.programs = programs
        self.meter = meter
        self.effort = effort
        self._messages = write_messages(folder)
        self._folder = folder
        self._extra = effort.extra
        self._run_number = 0

    def next_run(self) -> int:
        """The number of a run, which its messages carry."""
        self._run_number += 1
        return self._run_number

    def may_repeat(self) -> bool:
        """Take one of the repetitions that are left for disturbed runs."""
        self._extra -= 1
        return self._extra >= 0

    def offer(self, senders: Sequence[str]) -> Offer:
        """The load's files, for mail from those addresses."""
        file = self._folder / f"senders-{len(senders)}"
        file.write_text("".join(f"{sender}\n" for sender in senders))
        return Offer(self.programs.load, self._messages, file)


@contextmanager
def open_bench(effort: Effort) -> Iterator[Bench]:
    """Compile the programs and write the messages."""
    with Lab() as lab, meter() as opened:
        yield Bench(compiled(lab.folder), opened, lab.new_folder("load"), effort)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The settings of a peer, apart from its load."""

    keys: tuple[SigningKey, ...] = (RSA,)
    has_tls: bool = False
    senders: tuple[str, ...] = (SENDER,)


def measure(
    bench: Bench,
    peers: Sequence[Peer],
    loads: Sequence[Load],
    conditions: Conditions | None = None,
) -> list[Row]:
    """Measure each load with all peers in turn, round for round: the machine's speed changes.

    The row of a peer that could not be started says why.
    """
    conditions = conditions or Conditions()
    with ExitStack() as exits:
        entrants = [_Entrant(exits, bench, peer, loads, conditions) for peer in peers]
        return [row for load in loads for row in _in_turn(bench, entrants, load)]


def _in_turn(bench: Bench, entrants: Sequence["_Entrant"], load: Load) -> list[Row]:
    rows = {entrant: entrant.warmed_up(load) for entrant in entrants}
    for _ in range(bench.effort.repeats):
        for entrant in entrants:
            rows[entrant] = entrant.with_another_run(rows[entrant])
    return list(rows.values())


class _Entrant:
    """A peer in the turn, also one that could not be started."""

    def __init__(
        self,
        exits: ExitStack,
        bench: Bench,
        peer: Peer,
        loads: Sequence[Load],
        conditions: Conditions,
    ) -> None:
        self._peer = peer
        self._stage: _Stage | None = None
        self._skipped = self._error = ""
        try:
            self._stage = exits.enter_context(_started(bench, peer, loads, conditions))
        except pytest.skip.Exception as reason:
            self._skipped = str(reason)
            note(f"{peer.name}: skipped: {reason}")
        except (pytest.fail.Exception, OSError, subprocess.SubprocessError) as error:
            self._error = _first_line(error)
            note(f"{peer.name}: {error}")

    def warmed_up(self, load: Load) -> Row:
        """A row without a run yet."""
        row = Row(load, self._peer, skipped=self._skipped, error=self._error)
        return self._tried(row, lambda stage: stage.warmed_up(row))

    def with_another_run(self, row: Row) -> Row:
        """The row and one more run, unless something went wrong before."""
        return row if row.error else self._tried(row, lambda stage: stage.measured(row))

    def _tried(self, row: Row, act: "Callable[[_Stage], Row]") -> Row:
        if self._stage is None:
            return row
        try:
            return act(self._stage)
        except (GeneratorError, SignatureError) as error:
            note(f"{self._peer.name}, {row.load.title}: {error}")
            note_logs(self._stage.lab)
            return replace(row, runs=(), error=_first_line(error))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def note(text: str) -> None:
    """Report progress; the tables alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def note_logs(lab: Lab) -> None:
    """Report the end of each daemon's log."""
    for name, log in lab.logs():
        note(f"-- {name}\n{log[-_LOG_TAIL:]}")


@contextmanager
def _started(
    bench: Bench, peer: Peer, loads: Iterable[Load], conditions: Conditions
) -> "Iterator[_Stage]":
    with ExitStack() as exits:
        lab = exits.enter_context(Lab())
        authority = Authority(lab) if conditions.has_tls else None
        certificate = authority.certificate(HOSTNAME) if authority else None
        sink = exits.enter_context(open_sink(lab, bench.programs.sink, certificate))
        peers_lab = exits.enter_context(Lab(bench.meter.wrapper))
        setup = Setup(
            peers_lab,
            sink.port,
            conditions.keys,
            authority,
            max(load.connections for load in loads),
        )
        try:
            running = peer.start(setup)
        except pytest.fail.Exception:
            note_logs(peers_lab)
            raise
        yield _Stage(bench, peer, running, sink, peers_lab, conditions)


class _Stage:
    """A running peer between the load and the sink."""

    def __init__(
        self,
        bench: Bench,
        peer: Peer,
        running: Running,
        sink: Sink,
        lab: Lab,
        conditions: Conditions,
    ) -> None:
        self._bench = bench
        self._peer = peer
        self._running = running
        self._sink = sink
        self._keys = conditions.keys
        self._offer = bench.offer(conditions.senders)
        self.lab = lab
        self._roots = [daemon.process.pid for daemon in lab.daemons]
        self._is_warm = False

    def measured(self, row: Row) -> Row:
        """The row with one more run, after those that were disturbed and are repeated."""
        while True:
            run = self._run(row.load, self._bench.effort.seconds)
            note(self._progress(row.load, run))
            if not run.is_disturbed or run.complaint or not self._bench.may_repeat():
                return replace(row, runs=(*row.runs, run))
            row = replace(row, repeated=row.repeated + 1)
            time.sleep(_QUIET_S)

    def _progress(self, load: Load, run: Run) -> str:
        return (
            f"{self._peer.name:20} {load.title:24} {run.delivered_per_s:8.1f}/s "
            f"p50 {run.report.p50_ms:8.2f} p99 {run.report.p99_ms:8.2f} ms, "
            f"CPU {run.cpu_ms:7.3f} ms, {run.signatures:5.2f} signatures, "
            f"others {run.others_s:.2f} s"
            + (", disturbed" if run.is_disturbed else "")
            + (f" !! {run.complaint}" if run.complaint else "")
        )

    def warmed_up(self, row: Row) -> Row:
        """The row as it is, after a run that does not count and a check of signatures."""
        if self._peer.signs:
            self._sink.keep_next()
        seconds = min(self._bench.effort.seconds, 0.7 if self._is_warm else _WARM_UP_S)
        run = self._run(row.load, seconds)
        self._is_warm = True
        if not run.report.accepted:
            raise SignatureError(f"no message was accepted: {run.report.complaint}")
        if self._peer.signs:
            check_signatures(self._sink.last_kept(), self._keys)
        return row

    def _run(self, load: Load, seconds: float) -> Run:
        run, most = self._bench.next_run(), 0
        with (
            self._offer.start(load, self._running, seconds=seconds, run=run) as generator,
            TimedSignatures() as signatures,
        ):
            started, before, measured = time.monotonic(), self._sink.counts(), self._measured()
            generator.begin()
            while not generator.has_printed(_SAMPLE_S):
                most = max(most, resident(tree(self._roots)))
            seen = generator.report()
            self._wait_for_delivery(before, seen.accepted)
            time.sleep(_SETTLE_S)
            cpu_s, busy, ours = (
                now - then for now, then in zip(self._measured(), measured, strict=True)
            )
            whole_s = time.monotonic() - started
        pids = tree(self._roots)
        delivered = self._sink.counts().since(before)
        return Run(
            report=seen,
            delivered=delivered,
            delivered_s=delivered.last_ns / 1e9 - seen.started_at,
            cpu_s=cpu_s,
            others_s=max(busy - cpu_s - ours - seen.cpu_s, 0),
            whole_s=whole_s,
            resident=max(most, resident(pids)),
            proportional=proportional(pids),
            signature_ms=signatures.median_ms,
        )

    def _measured(self) -> tuple[float, float, float]:
        """CPU time of the peer, of the machine, of the sink and this process."""
        ours = cpu_of([self._sink.pid]) + time.process_time()
        return self._bench.meter.cpu_s(self._roots), busy_s(), ours

    def _wait_for_delivery(self, before: Counts, accepted: int) -> None:
        """Wait for the last message, but not for ever."""
        until = time.monotonic() + _DELIVERY_WAIT_S
        while self._sink.counts().since(before).messages < accepted:
            if time.monotonic() > until:
                return
            time.sleep(0.01)


def check_signatures(message: bytes, keys: Sequence[SigningKey]) -> None:
    """Verify that the message has one valid signature of each key, and no other."""
    records = {f"{key.selector}._domainkey.": key.record for key in keys}

    def txt(name: bytes | str, timeout: int = 5) -> bytes | None:
        asked = name.decode() if isinstance(name, bytes) else name
        return next((records[one] for one in records if asked.startswith(one)), None)

    header = message.partition(b"\r\n\r\n")[0].lower()
    count = f"\r\n{header.decode('latin-1')}".count("\r\ndkim-signature:")
    verifier = dkim.DKIM(message)
    valid = [verifier.verify(idx=index, dnsfunc=txt) for index in range(count)]
    if len(valid) != len(keys) or not all(valid):
        raise SignatureError(
            f"{sum(valid)} of {count} DKIM signatures are valid, with {len(keys)} keys: "
            f"{message[:500]!r}"
        )
