"""The file that keeps the tables, each with its commit and its machine."""

import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.bench.peers.machine import description
from tests.bench.peers.peer import Peer
from tests.support.source import ROOT

RESULTS: Final = Path(__file__).parents[1] / "results.md"


def _output(*words: str) -> str:
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip()


def commit() -> str:
    """The commit that is measured, and whether the files differ from it."""
    name = _output("git", "rev-parse", "--short", "HEAD") or "unknown"
    return f"{name} with changes" if _output("git", "status", "--porcelain") else name


def versions(peers: Iterable[Peer]) -> str:
    """The versions of the peers' packages."""
    packages = dict.fromkeys(package for peer in peers for package in peer.packages)
    found = {one: _output("dpkg-query", "-W", "-f", "${Version}", one) for one in packages}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def section(title: str, table: str, peers: Sequence[Peer]) -> str:
    """A table as the file keeps it."""
    today = datetime.now(UTC).date()
    facts = f"Commit {commit()}. {description()}.\n{versions(peers)}."
    return f"\n## {today}: {title}\n\n{facts}\n\n{table}"


def record(text: str, file: Path = RESULTS) -> None:
    """Append a section."""
    with file.open("a", encoding="utf-8") as opened:
        opened.write(text)
