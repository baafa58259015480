"""Memory and descriptors of a gate's processes, read from Linux while a soak runs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

# Growth that is allowed from the second quarter of the quiet time to the last one.
_FACTOR: Final = 1.15
_OCTETS: Final = 10_000_000
_DESCRIPTORS: Final = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """All processes of a gate together, each page that they share counted once."""

    pids: tuple[int, ...]
    octets: int
    descriptors: int


def children_of(pid: int) -> list[int]:
    """The processes that one has forked."""
    found: list[int] = []
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def processes_of(parent: int) -> list[int]:
    """A process and all that come from it."""
    return [parent, *(pid for child in children_of(parent) for pid in processes_of(child))]


def workers_below(parent: int) -> list[int]:
    """The workers of a gate, which its fork server has forked."""
    return [worker for server in children_of(parent) for worker in children_of(server)]


def read_gauge(parent: int) -> Reading:
    """Measure the gate, its fork server and the workers; not a child that applies documents."""
    octets = descriptors = 0
    pids = []
    servers = [child for child in children_of(parent) if children_of(child)]
    for pid in (parent, *servers, *workers_below(parent)):
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            (pss,) = [line.split()[1] for line in lines if line.startswith("Pss:")]
            octets += int(pss) * 1024
            descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            pids.append(pid)
    return Reading(tuple(pids), octets, descriptors)


def growth(readings: Sequence[Reading]) -> tuple[dict[str, object], list[str]]:
    """The figures of a time in which no process was replaced, and what grew in it."""
    if len(readings) < 8:
        return {}, []
    quarter = len(readings) // 4
    early, late = readings[quarter : 2 * quarter], readings[-quarter:]
    octets = [median(one.octets for one in part) for part in (early, late)]
    open_files = [median(one.descriptors for one in part) for part in (early, late)]
    figures: dict[str, object] = {
        "memory (MB)": f"{octets[0] / 1e6:.1f} -> {octets[1] / 1e6:.1f}",
        "descriptors": f"{open_files[0]:.0f} -> {open_files[1]:.0f}",
    }
    problems = []
    if octets[1] > octets[0] * _FACTOR + _OCTETS:
        problems.append(f"memory grew: {figures['memory (MB)']} MB")
    if open_files[1] > open_files[0] * _FACTOR + _DESCRIPTORS:
        problems.append(f"descriptors grew: {figures['descriptors']}")
    return figures, problems
