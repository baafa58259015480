"""The third table: what a message costs while the directory, its policies, the connections and
the journal grow. It costs the same at every size, or the row shows how much more.

The load is the same everywhere: messages at a fixed rate from ten senders. The databases are
those of ``large_directory`` and ``large_journal``, which measure them in more detail.
"""

import asyncio
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from smtpgate.directory.documents.apply import apply
from smtpgate.directory.documents.read import read_desired
from tests.bench import directory_figures, large_journal
from tests.bench.bulk import Size, fill
from tests.bench.peers.gate import REGION, Contents, start_gate, write_documents
from tests.bench.peers.load import Load
from tests.bench.peers.peer import Peer
from tests.bench.peers.run import RSA, Bench, Conditions, Row, measure, note
from tests.bench.peers.table import median, short, spread, summary
from tests.support.directory import ACTOR, MASTER_KEYS, open_store, sqlite_in

SENDERS: Final = tuple(f"user1@perf{number}.example" for number in range(10))
_LOAD: Final = Load("growth", connections=32, rate_per_s=200)
_IDENTITIES_AN_ACCOUNT: Final = 10
_KEPT: Final = "[journal]\nmax_age_days = 3650\nmax_octets = 1_000_000_000_000\n"
_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest sizes; building them takes longer than measuring."""

    identities: int
    records: int


@dataclass(frozen=True, slots=True)
class Step:
    """A size of what grows, with its measurements."""

    what: str
    size: int
    row: Row
    facts: str = ""


@dataclass(frozen=True, slots=True)
class _Made:
    """The contents of a gate, and figures that were measured without one."""

    contents: Contents
    facts: str = ""
    connections: int = _LOAD.connections


_Make = Callable[[Path, int], _Made]


def _contents() -> Contents:
    return Contents({RSA.selector: RSA.pem}, SENDERS)


def _directory(folder: Path, identities: int) -> _Made:
    """A directory of other accounts with so many identities, beside the ten senders'."""
    size = Size(max(identities // _IDENTITIES_AN_ACCOUNT, 1), identities)
    url, contents = sqlite_in(folder), replace(_contents(), master_key=MASTER_KEYS)
    write_documents(folder / "documents", contents)
    asyncio.run(_filled(url, size, folder / "documents"))
    figures = _alone(directory_figures.start, url, size)
    figures |= _alone(directory_figures.decisions, url, size)
    decision = figures["decision, 20 policies of 4 KB, warm, median ms"]
    start = figures["start to first answer, ms"]
    facts = f"first answer {start:.0f} ms; decision with 20 policies of 4 KB {decision:.3f} ms"
    return _Made(replace(contents, database=url, is_applied=True), facts)


async def _filled(url: str, size: Size, documents: Path) -> None:
    """Apply the documents first: the gate need not compare them with a million identities."""
    desired = read_desired(documents, region=REGION, partition="aws")
    async with open_store(url) as store:
        async with store.changing(ACTOR) as change:
            _ = await apply(change, store, desired, prune=False)
        await fill(store, size)


def _alone(
    figures: Callable[[str, Size], dict[str, float]], url: str, size: Size
) -> dict[str, float]:
    """A measurement in a process that did nothing before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(figures, url, size).result()


def _policies(folder: Path, policies: int) -> _Made:
    """So many policies on each identity, of which the last one allows."""
    del folder
    return _Made(replace(_contents(), policies=policies))


def _connections(folder: Path, connections: int) -> _Made:
    """So many sessions, all logged in."""
    del folder
    return _Made(_contents(), connections=connections)


def _journal(folder: Path, records: int) -> _Made:
    """A journal with so many records; their searches are measured before the gate starts."""
    figures = asyncio.run(large_journal.measure(folder, records))
    os.sync()  # else the gate's syncs would wait for what was written before
    times = {what: warm for what, (_, warm, _) in figures.items()}
    slowest = max(times, key=times.__getitem__)
    facts = (
        f"first page of a search {statistics.median(times.values()):.1f} ms; "
        f"slowest {times[slowest]:.1f} ms ({slowest})"
    )
    return _Made(replace(_contents(), state_dir=folder, sections=_KEPT), facts)


def _dimensions(bounds: Bounds) -> dict[str, tuple[_Make, Sequence[int]]]:
    return {
        "identities": (_directory, _up_to((10, 1_000, 100_000), bounds.identities)),
        "policies on an identity": (_policies, (1, 5, 20)),
        "connections": (_connections, (10, 100, 1_000)),
        "journal records": (_journal, _up_to((1, 10_000, 1_000_000), bounds.records)),
    }


def _up_to(sizes: Sequence[int], largest: int) -> list[int]:
    return [*(size for size in sizes if size < largest), largest]


def measure_all(
    bench: Bench, bounds: Bounds, folder: Path | None, only: str | None = None
) -> list[Step]:
    """Measure every size of everything that grows, or of one such thing."""
    steps = []
    for what, (make, sizes) in _dimensions(bounds).items():
        if only and not what.startswith(only):
            continue
        for size in sizes:
            with _temporary(folder) as made_in:
                note(f"{what}: {size:,}")
                made = make(made_in, size)
                steps.append(Step(what, size, _measured(bench, what, made), made.facts))
    return steps


@contextmanager
def _temporary(folder: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="smtpgate-", dir=folder) as name:
        yield Path(name)


def _measured(bench: Bench, what: str, made: _Made) -> Row:
    peer = Peer("smtpgate", partial(start_gate, contents=made.contents), is_ours=True)
    load = replace(_LOAD, title=what, connections=made.connections)
    (row,) = measure(bench, [peer], [load], Conditions(senders=SENDERS))
    return row


def table(steps: Sequence[Step]) -> str:
    """A line a size, each with its cost relative to the smallest size."""
    headings = (
        "what grows", "size", "p50 ms", "p99 ms", "CPU s/1000", "±", "by the smallest",
        "RSS (PSS) MiB", "besides",
    )  # fmt: skip
    lines = [_line(headings), _line(["---"] * len(headings))]
    smallest: dict[str, float] = {}
    for step in steps:
        start = [step.what, f"{step.size:,}"]
        if not step.row.runs:
            why = step.row.skipped or step.row.error
            lines.append(_line([*start, why, *[""] * (len(headings) - 3)]))
            continue
        cpu_ms = median(step.row, lambda run: run.cpu_ms)
        first = smallest.setdefault(step.what, cpu_ms)
        cells = [
            short(median(step.row, lambda run: run.report.p50_ms)),
            short(median(step.row, lambda run: run.report.p99_ms)),
            f"{cpu_ms:.3f}",
            f"{spread(step.row, lambda run: run.cpu_ms):.0%}",
            short(cpu_ms / first) if first else "-",
            f"{median(step.row, lambda run: run.resident) / _MEBIBYTE:.0f} "
            f"({median(step.row, lambda run: run.proportional) / _MEBIBYTE:.0f})",
            step.facts,
        ]
        lines.append(_line([*start, *cells]))
    return "\n".join(lines) + "\n\n" + summary([step.row for step in steps]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
