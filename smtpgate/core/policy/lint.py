"""Lint: findings about a valid policy, each with a code, an explanation and a proposal."""

from collections.abc import Iterator
from typing import Final

from smtpgate.core.policy.attachment import (
    MAX_POLICY_OCTETS,
    MAX_USER_POLICY_CHARACTERS,
    characters_of,
)
from smtpgate.core.policy.document import WITH_VARIABLES
from smtpgate.core.policy.finding import Finding, found
from smtpgate.core.policy.lint_conditions import condition_findings
from smtpgate.core.policy.lint_contradictions import contradictions
from smtpgate.core.policy.lint_regex import regex_findings
from smtpgate.core.policy.lint_statements import is_about_others, statement_findings
from smtpgate.core.policy.lint_values import value_findings
from smtpgate.core.policy.problem import shown
from smtpgate.core.policy.statement import Policy, Statement
from smtpgate.core.policy.strict_json import Json, parse_json

_NEAR_LIMIT: Final = MAX_POLICY_OCTETS * 9 // 10


def lint_policy(policy: Policy, *, source: str) -> tuple[Finding, ...]:
    """All findings about a policy, in the order of the document.

    ``source`` is the text that the policy was read from.
    """
    return (*_statements(policy), *_empty_conditions(source), *_size(policy, source))


def _statements(policy: Policy) -> Iterator[Finding]:
    denials = [statement for statement in policy.statements if statement.is_deny]
    for statement in policy.statements:
        if policy.kind == "user" and is_about_others(statement, policy.statements):
            continue
        yield from statement_findings(policy.kind, statement, denials)
        for condition in statement.conditions:
            path = f"{statement.path}.Condition.{condition.operator.text}.{condition.key}"
            yield from regex_findings(condition, path)
            yield from condition_findings(statement, condition, path)
            yield from value_findings(statement, condition, path)
        yield from contradictions(statement)
        if policy.version != WITH_VARIABLES:
            yield from _literal_variables(statement)


def _literal_variables(statement: Statement) -> Iterator[Finding]:
    texts = [value for condition in statement.conditions for value in condition.values]
    for text in (*statement.resources, *texts):
        if "${" in text:
            yield found(
                "variables-need-version",
                statement.path,
                f"without Version `{WITH_VARIABLES}' {shown(text)} is literal text",
                f'"Version": "{WITH_VARIABLES}"',
            )


def _empty_conditions(source: str) -> Iterator[Finding]:
    """Empty conditions: they restrict nothing, and are not part of the policy that was read."""
    document, _ = parse_json(source)
    statements: Json = document.get("Statement") if isinstance(document, dict) else None
    members = statements if isinstance(statements, list) else [statements]
    for at, statement in enumerate(members):
        path = f"Statement[{at}]" if isinstance(statements, list) else "Statement"
        block = statement.get("Condition") if isinstance(statement, dict) else None
        if block == {}:
            yield found("empty-condition", f"{path}.Condition", "it restricts nothing")
        for operator, keys in block.items() if isinstance(block, dict) else ():
            if keys == {}:
                where = f"{path}.Condition.{operator}"
                yield found("empty-condition", where, "it restricts nothing")


def _size(policy: Policy, source: str) -> Iterator[Finding]:
    if policy.kind == "user":
        yield from _user_size(source)
        return
    octets = len(source.encode())
    if octets <= _NEAR_LIMIT:
        return
    code = "over-size-limit" if octets > MAX_POLICY_OCTETS else "near-size-limit"
    yield found(
        code,
        "document",
        f"it has {octets} of at most {MAX_POLICY_OCTETS} octets",
        "leave out white space, or split it: an identity may have 20 policies",
    )


def _user_size(source: str) -> Iterator[Finding]:
    characters = characters_of(source)
    if characters > MAX_USER_POLICY_CHARACTERS:
        yield found(
            "over-size-limit",
            "document",
            f"it has {characters} of at most {MAX_USER_POLICY_CHARACTERS} characters besides "
            "white space",
            "split it: a user may have several policies, of 10240 characters in total",
        )
