"""The time that commands take to start, and the ten imports that take most of it.

Printed, not judged. ``SMTPGATE_BENCH_SECONDS`` is the length of the measurement of a command
(4; with 0.01 it is started once). The times of imports are ``-X importtime``'s, which are
longer than without it: compare them with each other.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.cases import CASES

pytestmark = pytest.mark.bench

SECONDS: Final = float(os.environ.get("SMTPGATE_BENCH_SECONDS", "4"))
TOP: Final = 10
BOUNCE: Final = CASES / "bounces" / "lhost-postfix-01.eml"
PROGRAM: Final = ("-m", "smtpgate")
# Nothing is added to what a user's start costs: the modules are compiled, as after any start.
ENVIRONMENT: Final = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


class Import(NamedTuple):
    """An import: its own time and that with all it imports, in milliseconds."""

    own: float
    whole: float
    module: str


def started(
    words: Sequence[str], config: Path, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    environment: Mapping[str, str] = ENVIRONMENT | {"SMTPGATE_CONFIG": str(config)}
    return subprocess.run(
        [sys.executable, *options, *PROGRAM, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def imports(words: Sequence[str], config: Path) -> list[Import]:
    """Every import of a start, the longest by itself first."""
    lines = started(words, config, ["-X", "importtime"]).stderr.splitlines()
    found = []
    for line in lines:
        title, _, row = line.partition(":")
        own, _, rest = row.partition("|")
        whole, _, module = rest.partition("|")
        if title == "import time" and own.strip().isdecimal():
            found.append(Import(int(own) / 1000, int(whole) / 1000, module.strip()))
    return sorted(found, reverse=True)


def seconds_to_start(words: Sequence[str], config: Path) -> list[float]:
    """The time of each start, after one that is not counted."""
    _ = started(words, config)
    taken, until = list[float](), time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < until:
        begun = time.perf_counter()
        _ = started(words, config)
        taken.append(time.perf_counter() - begun)
    return taken


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a gate whose directory has tables and nothing in them."""
    folder = tmp_path_factory.mktemp("gate")
    made = folder / "smtpgate.toml"
    init = ("init", str(folder), "--hostname", "gate.example.com", "--state-dir")
    _ = started([*init, str(folder / "state"), "--domain", "example.com"], made)
    _ = started(["directory", "upgrade"], made)
    return made


@pytest.mark.parametrize(
    "words",
    [("--version",), ("--help",), ("feedback", "read", str(BOUNCE)), ("account", "list")],
    ids=" ".join,
)
def test_a_start(words: Sequence[str], config: Path) -> None:
    taken = seconds_to_start(words, config)
    print(
        f"\nsmtpgate {' '.join(words)}: median {statistics.median(taken):.3f} s, "
        f"shortest {min(taken):.3f} s of {len(taken)}"
    )
    found = imports(words, config)
    print(f"  {len(found)} imports; the longest, in ms by themselves and with all they import:")
    for one in found[:TOP]:
        print(f"  {one.own:7.1f} {one.whole:7.1f}  {one.module}")
    assert len(found) > TOP
