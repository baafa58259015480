"""The machine: CPU time and memory of processes, what others use, and a signature's cost."""

import os
import platform
import re
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, Protocol, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.bench.peers.interpreter import interpreter

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_OCTETS: Final = os.sysconf("SC_PAGE_SIZE")
_CGROUPS: Final = Path("/sys/fs/cgroup")
# Idle, and waiting for a disk; the rest of /proc/stat's first line is use, stolen time too.
_IDLE: Final = (3, 4)
_GUEST_AT: Final = 8  # counted among the others already
_SIGNATURES: Final = 10
_SIGNED_EVERY_S: Final = 0.15


def _fields(pid: int) -> list[str]:
    """The fields of a process after its name, or none when it has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):
        if entry.isdecimal() and (fields := _fields(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, left = list[int](), list(roots)
    while left:
        found.append(left.pop())
        left += children.get(found[-1], ())
    return found


def cpu_of(pids: Iterable[int]) -> float:
    """Seconds of CPU time of these processes and of their children that have ended."""
    return sum(sum(map(int, _fields(pid)[11:15])) for pid in pids) / _TICKS_PER_S


def resident(pids: Iterable[int]) -> int:
    """Octets in memory; pages that several processes share count for each."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE_OCTETS
    return total


def proportional(pids: Iterable[int]) -> int:
    """Octets in memory; pages that several processes share are divided among them."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            text = (_PROC / str(pid) / "smaps_rollup").read_text()
            total += int(text.partition("\nPss:")[2].split()[0]) * 1024
    return total


def busy_s() -> float:
    """Seconds of CPU time that the machine has used, or that its host has not given to it."""
    first = (_PROC / "stat").read_text().partition("\n")[0].split()[1:]
    return (
        sum(int(ticks) for at, ticks in enumerate(first[:_GUEST_AT]) if at not in _IDLE)
        / _TICKS_PER_S
    )


class Meter(Protocol):
    """Counts the CPU time of a peer's processes, also of those that have ended."""

    wrapper: tuple[str, ...]
    """The words before each command of the peer."""

    def cpu_s(self, roots: Iterable[int]) -> float:
        """The CPU time so far."""


class _Tree:
    """Used without control groups: a child that nobody waited for is not counted."""

    wrapper: tuple[str, ...] = ()

    def cpu_s(self, roots: Iterable[int]) -> float:
        """Add up what the processes report."""
        return cpu_of(tree(roots))


class _Group:
    """A control group (cgroups version 1 or 2)."""

    def __init__(self, folder: Path, file: str, pattern: str, per_s: float) -> None:
        self._file = folder / file
        self._pattern = re.compile(pattern)
        self._per_s = per_s
        # The shell enters the group before it becomes the daemon: no child is outside.
        enter = 'echo $$ >"$0" && exec "$@"'
        self.wrapper: tuple[str, ...] = ("/bin/sh", "-c", enter, str(folder / "cgroup.procs"))
        _ = self.cpu_s(())

    def cpu_s(self, roots: Iterable[int]) -> float:
        """Read the group's own count."""
        del roots
        found = self._pattern.search(self._file.read_text())
        if found is None:
            raise OSError(f"{self._file} has no CPU time")
        return int(found[1]) / self._per_s


_VERSIONS: Final = (
    ("cpuacct", "cpuacct.usage", r"(\d+)", 1e9),
    ("", "cpu.stat", r"usage_usec (\d+)", 1e6),
)


def _group(hierarchy: str, file: str, pattern: str, per_s: float) -> tuple[_Group, Path] | None:
    folder = _CGROUPS / hierarchy / f"smtpgate-bench-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        return _Group(folder, file, pattern, per_s), folder
    except OSError:
        folder.rmdir()
        return None


@contextmanager
def meter() -> Iterator[Meter]:
    """The best meter that this machine has."""
    made = next((made for version in _VERSIONS if (made := _group(*version))), None)
    if made is None:
        yield _Tree()
        return
    group, folder = made
    try:
        yield group
    finally:
        with suppress(OSError):  # a process is left in it
            folder.rmdir()


class TimedSignatures:
    """Times RSA-2048 signatures now and then, in a thread, while a load runs.

    A virtual processor's speed changes within a second by half, as what it shares with others
    is busy or not. So signatures that are timed before and after a run say little about it.
    Each time some are made without a pause, as ``openssl speed`` does.
    """

    def __init__(self) -> None:
        self._times_ms: list[float] = []
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        _ = _key()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._times_ms.append(_signature_ms())
            if self._has_ended.wait(_SIGNED_EVERY_S):
                return

    @property
    def median_ms(self) -> float:
        """CPU milliseconds of a signature; the load has ended."""
        return statistics.median(self._times_ms)


def _signature_ms() -> float:
    times = []
    for _ in range(_SIGNATURES):
        begun = time.thread_time()
        _ = _key().sign(b"", padding.PKCS1v15(), hashes.SHA256())
        times.append(time.thread_time() - begun)
    return statistics.median(times) * 1000


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _first(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text() if file.exists() else "", re.MULTILINE)
    return found[1] if found else "unknown"


def description() -> str:
    """The machine in a line: CPU, memory, systems."""
    cpu = _first(_PROC / "cpuinfo", r"^model name\s*: (.*)$")
    kibibytes = int(_first(_PROC / "meminfo", r"^MemTotal:\s+(\d+)"))
    path, version = interpreter()
    system = _first(Path("/etc/os-release"), r'^PRETTY_NAME="(.*)"$')
    return (
        f"{os.cpu_count()} cores ({cpu}), {kibibytes / 2**20:.0f} GiB, {system}, "
        f"Linux {platform.release()}, Python {version} ({path})"
    )
