"""Plant mistakes in the policy engine, one at a time, and see whether its tests notice.

    .venv/bin/python tests/mutation/mutate.py [--jobs 2] [NUMBER ...]

Each mistake of ``mutations.toml`` is made in a copy of the tree, and the policy tests run
there. One that no test notices is a survivor; exit status 1 when there is one. Not part of
``make test``: it takes minutes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent.parent
ENGINE = "smtpgate/core/policy"
TESTS = (
    "tests/unit/test_policy_*.py",
    "tests/cli/test_policy_*.py",
    "tests/unit/test_access.py", "tests/unit/test_generate*.py",
    "tests/unit/test_simulation.py", "tests/property/test_policy_*.py",
    "tests/property/test_generate_*.py", "tests/property/test_strict_json_*.py",
)  # fmt: skip
# An endless loop is noticed too.
SECONDS = 120


@dataclass(frozen=True)
class Mutation:
    """A mistake: the text that is put in the place of another, and what it breaks."""

    number: int
    file: str
    old: str
    new: str
    breaks: str


@dataclass(frozen=True)
class Report:
    """The fate of a mistake; ``caught_by`` is the first test that noticed."""

    mutation: Mutation
    is_caught: bool
    caught_by: str

    def __str__(self) -> str:
        verdict = "caught  " if self.is_caught else "SURVIVED"
        mutation = self.mutation
        return (
            f"{mutation.number:3} {verdict} {mutation.file}: {mutation.breaks} {self.caught_by}"
        )


def mutations() -> Iterator[Mutation]:
    """All mistakes; each old text must stand in its file exactly once."""
    text = Path(__file__).with_name("mutations.toml").read_text("utf-8")
    for number, row in enumerate(tomllib.loads(text)["mutation"], 1):
        mutation = Mutation(number, **row)
        found = (ROOT / ENGINE / mutation.file).read_text("utf-8").count(mutation.old)
        if found != 1:
            raise SystemExit(
                f"mutation {number} ({mutation.breaks}): old text stands {found} times"
            )
        yield mutation


def copied(folder: Path) -> Path:
    """A copy of what the policy tests need."""
    for name in ("smtpgate", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_tests(tree: Path) -> tuple[bool, str]:
    """The name of the test that failed there, if one did."""
    files = sorted(str(path) for pattern in TESTS for path in tree.glob(pattern))
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *files],
            cwd=tree,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True, "(timeout)"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    name = failed[0].split(" - ")[0].partition("::")[2] if failed else ""
    return done.returncode != 0, f"[{name}]" if name else ""


def tried(mutation: Mutation, trees: "SimpleQueue[Path]") -> Report:
    """Plant one mistake in a free copy, run the tests, take it out again."""
    tree = trees.get()
    file = tree / ENGINE / mutation.file
    before = file.read_text("utf-8")
    file.write_text(before.replace(mutation.old, mutation.new), "utf-8")
    try:
        return Report(mutation, *run_tests(tree))
    finally:
        file.write_text(before, "utf-8")
        trees.put(tree)


def main(arguments: Sequence[str]) -> int:
    """Try the mistakes of the given numbers, or all."""
    parser = argparse.ArgumentParser(description="Plant mistakes in the policy engine.")
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args(arguments)
    planted = [m for m in mutations() if not chosen.numbers or m.number in chosen.numbers]
    with tempfile.TemporaryDirectory() as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        first = copied(Path(folder) / "0")
        failed, name = run_tests(first)
        if failed:
            sys.stdout.write(f"the tests fail without a mistake: {name}\n")
            return 1
        trees.put(first)
        for number in range(1, chosen.jobs):
            trees.put(copied(Path(folder) / str(number)))
        with ThreadPoolExecutor(chosen.jobs) as pool:
            survivors = 0
            for report in pool.map(lambda mutation: tried(mutation, trees), planted):
                sys.stdout.write(f"{report}\n")
                sys.stdout.flush()
                survivors += not report.is_caught
    sys.stdout.write(f"{len(planted) - survivors} of {len(planted)} caught\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
