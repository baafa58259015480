"""``smtpgate policy lint``: what is wrong with policy files, and what is legal but unwise."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from smtpgate.cli.listing import shown
from smtpgate.core.policy import (
    Finding,
    Kind,
    PolicyError,
    attachment_problems,
    lint_policy,
    parse_policy,
)
from smtpgate.core.policy.problem import Problem
from smtpgate.core.policy.strict_json import parse_json

_STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding about one file."""

    file: str
    finding: Finding

    @property
    def is_error(self) -> bool:
        """Whether it makes the command fail."""
        return self.finding.severity == "error"

    def __str__(self) -> str:
        found = self.finding
        line = f"{self.file}: {found.code} {found.severity}: {found.path}: {found.message}"
        return shown(f"{line}\n    write instead: {found.proposal}" if found.proposal else line)


def lint_files(
    paths: Iterable[Path], *, kind: Kind | None, identity_arn: str | None
) -> Iterator[Remark]:
    """The findings of all files, in order; a file that cannot be read does not end it."""
    for path in paths:
        try:
            source = sys.stdin.buffer.read() if path == _STDIN else path.read_bytes()
        except OSError as error:
            problem = Problem("document", error.strerror or str(error))
            yield Remark(str(path), _error("unreadable", problem))
            continue
        for finding in findings(source, path.stem, kind, identity_arn):
            yield Remark(str(path), finding)


def _error(code: str, problem: Problem) -> Finding:
    return Finding(code, "error", problem.path, problem.message)


def findings(
    source: bytes, name: str, kind: Kind | None, identity_arn: str | None
) -> Iterator[Finding]:
    """What is wrong with a document, or unwise; with an ARN also why it cannot stand there."""
    if kind is None:
        kind = "identity" if identity_arn else kind_of_document(source)
    try:
        policy = parse_policy(source, kind=kind, name=name)
    except PolicyError as error:
        yield from (_error("invalid-policy", problem) for problem in error.problems)
        return
    attached: Sequence[Problem] = ()
    if identity_arn is not None:
        attached = attachment_problems(
            policy, identity_arn=identity_arn, source_octets=len(source), siblings=0
        )
    yield from (_error("not-attachable", problem) for problem in attached)
    # What stands in the way of attaching it need not be told twice.
    told = {problem.path for problem in attached}
    for finding in lint_policy(policy, source=source.decode("utf-8")):
        if finding.path not in told:
            yield finding


def kind_of_document(source: bytes) -> Kind:
    """The kind that a document looks like: an identity policy names principals."""
    try:
        document, _ = parse_json(source)
    except PolicyError:
        return "identity"
    statements = document.get("Statement") if isinstance(document, dict) else None
    for statement in statements if isinstance(statements, list) else [statements]:
        if isinstance(statement, dict) and any("princip" in key.lower() for key in statement):
            return "identity"
    return "user"


def as_json(remarks: Iterable[Remark]) -> str:
    """All findings as one JSON list."""
    rows = [{"file": remark.file, **asdict(remark.finding)} for remark in remarks]
    return json.dumps(rows, indent=2)
