"""Everything that is wrong with a document, or legal but unwise, in one list of findings."""

from collections.abc import Iterator, Sequence

from smtpgate.core.policy.attachment import attachment_problems
from smtpgate.core.policy.document import parse_policy
from smtpgate.core.policy.finding import Finding
from smtpgate.core.policy.lint import lint_policy
from smtpgate.core.policy.problem import PolicyError, Problem
from smtpgate.core.policy.statement import PolicyKind
from smtpgate.core.policy.strict_json import parse_json


def check_document(
    source: bytes, name: str, kind: PolicyKind | None = None, identity_arn: str | None = None
) -> Iterator[Finding]:
    """The findings about a document; with an ARN also why that identity cannot have it.

    Without a kind it is the one that the document looks like.
    """
    if kind is None:
        kind = "identity" if identity_arn else kind_of_document(source)
    try:
        policy = parse_policy(source, kind=kind, name=name)
    except PolicyError as error:
        yield from (error_finding("invalid-policy", problem) for problem in error.problems)
        return
    attached: Sequence[Problem] = ()
    if identity_arn:
        attached = attachment_problems(
            policy, identity_arn=identity_arn, source_octets=len(source), siblings=0
        )
    yield from (error_finding("not-attachable", problem) for problem in attached)
    # A place that keeps the policy from being attached need not be named twice.
    named = {problem.path for problem in attached}
    for finding in lint_policy(policy, source=source.decode("utf-8")):
        if finding.path not in named:
            yield finding


def error_finding(code: str, problem: Problem) -> Finding:
    """A problem as a finding."""
    return Finding(code, "error", problem.path, problem.message)


def kind_of_document(source: bytes) -> PolicyKind:
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
