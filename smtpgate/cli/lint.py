"""``smtpgate policy lint``: what is wrong with policy files, and what is legal but unwise."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from smtpgate.cli.listing import shown
from smtpgate.config.toml import reason
from smtpgate.core.policy import Finding, PolicyKind, Problem, check_document, error_finding

_STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding about one file."""

    file: str
    finding: Finding

    @property
    def is_error(self) -> bool:
        """True if it makes the command fail."""
        return self.finding.severity == "error"

    def __str__(self) -> str:
        found = self.finding
        line = f"{self.file}: {found.code} {found.severity}: {found.path}: {found.message}"
        return shown(f"{line}\n    write instead: {found.proposal}" if found.proposal else line)


def lint_files(
    paths: Iterable[Path], *, kind: PolicyKind | None, identity_arn: str | None
) -> Iterator[Remark]:
    """The findings of all files, in order; a file that cannot be read does not end it."""
    for path in paths:
        try:
            source = sys.stdin.buffer.read() if path == _STDIN else path.read_bytes()
        except OSError as error:
            problem = Problem("document", f"cannot be read: {reason(error)}")
            yield Remark(str(path), error_finding("unreadable", problem))
            continue
        for finding in check_document(source, path.stem, kind, identity_arn):
            yield Remark(str(path), finding)


def as_json(remarks: Iterable[Remark]) -> str:
    """All findings as one JSON list."""
    rows = [{"file": remark.file, **asdict(remark.finding)} for remark in remarks]
    return json.dumps(rows, indent=2)
