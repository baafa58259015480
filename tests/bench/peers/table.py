"""Rows of runs as a table in Markdown: medians, spreads, and the gate's ratios to its peers."""

import statistics
from collections.abc import Callable, Sequence
from typing import Final

from tests.bench.peers.run import Row, Run

Figure = Callable[[Run], float]

_MEBIBYTE: Final = 2**20
_HEADINGS: Final = (
    "load", "peer", "delivered/s", "±", "p50 ms", "p99 ms", "CPU s/1000", "±",
    "messages/core-s", "signatures", "RSS (PSS) MiB",
)  # fmt: skip
# The gate's figure divided by the peer's: more is better for the first two.
_RATIOS: Final[dict[str, Figure]] = {
    "core-s ratio": lambda run: 1 / run.cpu_ms if run.cpu_ms else 0,
    "delivered ratio": lambda run: run.delivered_per_s,
    "p50 ratio": lambda run: run.report.p50_ms,
    "p99 ratio": lambda run: run.report.p99_ms,
}


def median(row: Row, figure: Figure) -> float:
    """The median of a figure over the runs of a row."""
    return statistics.median(map(figure, row.runs))


def spread(row: Row, figure: Figure) -> float:
    """The largest value minus the smallest, as a part of the median."""
    values = [figure(run) for run in row.runs]
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0


def short(value: float) -> str:
    """Three digits that count, and no exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figures(row: Row) -> list[str]:
    cpu_ms = median(row, lambda run: run.cpu_ms)
    memory = (
        median(row, lambda run: run.resident) / _MEBIBYTE,
        median(row, lambda run: run.proportional) / _MEBIBYTE,
    )
    return [
        short(median(row, lambda run: run.delivered_per_s)),
        f"{spread(row, lambda run: run.delivered_per_s):.0%}",
        short(median(row, lambda run: run.report.p50_ms)),
        short(median(row, lambda run: run.report.p99_ms)),
        f"{cpu_ms:.3f}",
        f"{spread(row, lambda run: run.cpu_ms):.0%}",
        short(1000 / cpu_ms) if cpu_ms else "-",
        short(median(row, lambda run: run.signatures)),
        f"{memory[0]:.0f} ({memory[1]:.0f})",
    ]


def _ratio(gates: Sequence[Row], row: Row, figure: Figure) -> str:
    """The gate's figure by this peer's in each round, the median: of each gate, in order."""
    if not all(map(figure, row.runs)):
        return "-"
    return " / ".join(
        f"{statistics.median(figure(ours) / figure(theirs) for ours, theirs in rounds):.2f}"
        for rounds in (list(zip(gate.runs, row.runs, strict=True)) for gate in gates)
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    load = f"{row.load.title} ({row.load.pattern})"
    start = [load, f"**{row.peer.name}**" if row.peer.is_ours else row.peer.name]
    columns = len(_HEADINGS) - len(start) + len(_RATIOS)
    if not row.runs:
        why = f"skipped: {row.skipped}" if row.skipped else f"failed: {row.error}"
        return [*start, why.replace("|", "/"), *[""] * (columns - 1)]
    gates = [one for one in rows if one.peer.is_ours and one.load == row.load and one.runs]
    ratios = (
        ["", *[""] * (len(_RATIOS) - 1)]
        if row.peer.is_ours or not gates or not row.peer.signs
        else [_ratio(gates, row, figure) for figure in _RATIOS.values()]
    )
    return [*start, *_figures(row), *ratios]


def table(rows: Sequence[Row]) -> str:
    """All rows, those of a load together."""
    loads = list(dict.fromkeys(row.load for row in rows))
    ordered = [row for load in loads for row in rows if row.load == load]
    gates = list(dict.fromkeys(row.peer.name for row in rows if row.peer.is_ours and row.runs))
    headings = [*_HEADINGS, *_RATIOS]
    lines = [
        _line(headings),
        _line(["---"] * len(headings)),
        *(_line(_cells(row, rows)) for row in ordered),
    ]
    explained = (
        f"\nRatios are {' / '.join(gates)} divided by the peer in the same round; medians."
        if gates
        else ""
    )
    return "\n".join(lines) + "\n" + explained + "\n" + summary(rows) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """The number of messages, the machine's speed, and the errors."""
    runs = [run for row in rows for run in row.runs]
    accepted = sum(run.report.accepted for run in runs)
    delivered = sum(run.delivered.messages for run in runs)
    repeated = sum(row.repeated for row in rows)
    disturbed = sum(run.is_disturbed for run in runs)
    signature_us = sorted(run.signature_ms * 1000 for run in runs) or [0.0]
    found = [
        f"{len(runs)} runs: {accepted} messages accepted, {delivered} delivered.",
        f"RSA-2048 signature: {statistics.median(signature_us):.0f} µs "
        f"({signature_us[0]:.0f} to {signature_us[-1]:.0f}).",
        f"{repeated} disturbed runs were repeated; the table has {disturbed} disturbed runs.",
        *(
            f"{row.peer.name}, {row.load.title}: {wrong}."
            for row in rows
            for wrong in complaints(row)
        ),
    ]
    return "\n".join(found)


def complaints(row: Row) -> list[str]:
    """The errors of a row, each in a few words; a skipped peer is no error."""
    found = [run.complaint for run in row.runs if run.complaint]
    return [*found, row.error] if row.error else found


def has_failed(row: Row) -> bool:
    """True when the peer could not run, or lost a message."""
    return bool(row.error) or any(run.loss for run in row.runs)
