"""The gate to examine, and how checks are run: side by side, each with its own time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from smtpgate.config import Config
from smtpgate.doctor.finding import DoctorFinding, found
from smtpgate.doctor.spf import IpAddress
from smtpgate.ports import Clock, HostResolver


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedGate:
    """The gate as its configuration says, and the way to ask the world about it.

    ``outgoing`` are the addresses that upstreams send from. ``identities`` are the names to
    look at; all if there are none. ``test_to`` is the address of a test message, or empty.
    """

    config: Config
    clock: Clock
    resolver: HostResolver
    outgoing: Sequence[IpAddress] = ()
    identities: Sequence[str] = ()
    test_to: str = ""


Examine = Callable[[ExaminedGate], AsyncIterator[DoctorFinding]]


class DoctorCheck(NamedTuple):
    """A check: its name, what it looks at, the time it has, and the function that does it."""

    name: str
    looks_at: str
    time_s: float
    examine: Examine


@dataclass(slots=True)
class CheckReport:
    """The findings of a check, and the time that it took."""

    name: str
    findings: list[DoctorFinding] = field(default_factory=list)
    took_s: float = 0.0


async def run_checks(gate: ExaminedGate, checks: Iterable[DoctorCheck]) -> list[CheckReport]:
    """Run the checks side by side; one that takes too long or fails leaves the others alone."""
    return list(await asyncio.gather(*(_run(gate, one) for one in checks)))


async def _run(gate: ExaminedGate, check: DoctorCheck) -> CheckReport:
    report, began = CheckReport(check.name), gate.clock.monotonic()
    try:
        async with asyncio.timeout(check.time_s):
            async for finding in check.examine(gate):
                report.findings.append(finding)
    except TimeoutError:
        text = f"no end within {check.time_s:g} s"
        report.findings.append(found("check-too-slow", check.name, text))
    except Exception as error:  # noqa: BLE001 - the others' findings must be printed
        # Its text may hold a part of a secret; its kind and its place do not.
        report.findings.append(found("check-failed", check.name, _place_of(error)))
    report.took_s = gate.clock.monotonic() - began
    return report


def _place_of(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}"
    return f"{type(error).__name__}{place}"
