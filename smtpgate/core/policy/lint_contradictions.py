"""Findings about conditions of one statement that cannot be true together."""

from collections.abc import Iterator, Sequence
from typing import Any

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.finding import Finding, found
from smtpgate.core.policy.keys import is_multivalued
from smtpgate.core.policy.operators import NULL
from smtpgate.core.policy.statement import Statement


def contradictions(statement: Statement) -> Iterator[Finding]:
    """Conditions of a statement on one key that cannot hold together."""
    by_key: dict[str, list[Condition]] = {}
    for condition in statement.conditions:
        if not any("${" in value for value in condition.values):
            by_key.setdefault(condition.key.lower(), []).append(condition)
    for key, group in by_key.items():
        if len(group) > 1 and not is_multivalued(key):
            reason = _reason(key, group)
            if reason is not None:
                where = f"{statement.path}.Condition"
                yield found("never-true", where, f"no {group[0].key} {reason}")


def _reason(key: str, group: Sequence[Condition]) -> str | None:
    if any(_wants_absence(condition, key) for condition in group):
        if not all(condition.holds({}) for condition in group):
            return "can be absent and have a value"
        return None
    for condition in group:
        if condition.operator.text == "StringEquals" and not any(
            all(other.holds({key: (value,)}) for other in group) for value in condition.values
        ):
            return "satisfies all conditions on it"
    if _is_empty_window(group):
        return "is in the window that the conditions set"
    return None


def _wants_absence(condition: Condition, key: str) -> bool:
    is_null = condition.operator.base == NULL
    return is_null and condition.holds({}) and not condition.holds({key: ("",)})


def _is_empty_window(group: Sequence[Condition]) -> bool:
    for family in ("date", "number"):
        least = [bound for c in group for bound in _bounds(c, family, "GreaterThan")]
        most = [bound for c in group for bound in _bounds(c, family, "LessThan")]
        if least and most:
            (low, low_is_open), (high, high_is_open) = max(least), min(most, key=_upper)
            if low > high or (low == high and (low_is_open or high_is_open)):
                return True
    return False


def _upper(bound: tuple[Any, bool]) -> tuple[Any, bool]:
    value, is_open = bound
    return value, not is_open


def _bounds(condition: Condition, family: str, relation: str) -> Iterator[tuple[Any, bool]]:
    """The weakest alternative of one comparison, and true if the bound itself is excluded."""
    operator = condition.operator
    read = operator.row.read
    if operator.row.family != family or relation not in operator.base or read is None:
        return
    if operator.if_exists or operator.set_operator or not condition.values:
        return
    values = [read(value) for value in condition.values]
    weakest = min(values) if relation == "GreaterThan" else max(values)
    yield weakest, not operator.base.endswith("Equals")
