"""Why not: the Allow statement that came closest, and the one thing in it that did not fit.

Only asked when a request was denied. A statement that names the caller is closer than one that
does not, whatever else fits; then the action counts, then the resource, then how few conditions
fail. Principals of other accounts are not told: the answer goes to the caller.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.decision import NearestMiss, Request
from smtpgate.core.policy.keys import is_multivalued
from smtpgate.core.policy.operators import NULL
from smtpgate.core.policy.principals import Principals, Who
from smtpgate.core.policy.statement import Kind, Policy, Statement
from smtpgate.core.policy.variables import Context

__all__ = ["nearest_miss"]

_MAX_VALUES: Final = 3
_MAX_TEXT: Final = 120

_Misfit = tuple[str, str, str]
"""The element that did not fit, what it wanted, what it saw."""


def nearest_miss(
    side: Kind, policies: Sequence[Policy], request: Request, who: Who
) -> NearestMiss | None:
    """The closest Allow of the side; ``None`` when it has no Allow statement at all."""
    nearest: tuple[tuple[int, ...], NearestMiss] | None = None
    for statement in (s for policy in policies for s in policy.statements if not s.is_deny):
        misfits = list(_misfits(statement, request, who))
        distance = _distance(misfits)
        if not misfits or (nearest is not None and distance >= nearest[0]):
            continue
        element, wanted, seen = misfits[0]
        cited = statement.cited
        miss = NearestMiss(side, cited.policy, cited.sid, cited.index, element, wanted, seen)
        nearest = distance, miss
    return nearest[1] if nearest else None


def _distance(misfits: Sequence[_Misfit]) -> tuple[int, ...]:
    elements = [element.removeprefix("Not") for element, _, _ in misfits]
    return (
        *(elements.count(name) for name in ("Principal", "Action", "Resource")),
        len(misfits),
    )


def _misfits(statement: Statement, request: Request, who: Who) -> Iterator[_Misfit]:
    """Everything in the statement that does not fit, in the order of a statement."""
    principals = statement.principals
    if principals is not None and not principals.admits(who, denies=False):
        element = "NotPrincipal" if principals.is_not else "Principal"
        yield element, _named(principals, who), who.arn
    if not statement.covers_action(request.action.lower()):
        element = "NotAction" if statement.is_not_action else "Action"
        yield element, _words(statement.actions), request.action
    if not statement.covers_resource(request.resource, request.context):
        element = "NotResource" if statement.is_not_resource else "Resource"
        yield element, _words(statement.resources), request.resource
    for condition in statement.conditions:
        if not condition.holds(request.context):
            yield (
                _element(condition),
                _words(condition.values),
                _seen(condition, request.context),
            )


def _named(principals: Principals, who: Who) -> str:
    own = [name for name in principals.aws if who.account_id in name]
    return _words(own) if own else "principals of other accounts"


def _element(condition: Condition) -> str:
    operator = condition.operator
    if operator.base != NULL and not operator.set_operator and is_multivalued(condition.key):
        return (
            f"{condition.element} (which has many values) without ForAllValues or ForAnyValue"
        )
    return condition.element


def _seen(condition: Condition, context: Context) -> str:
    key = condition.key.lower()
    values = context.get(key, ())
    if condition.operator.set_operator == "ForAllValues":
        # Of many recipients only those matter that do not fit.
        values = tuple(v for v in values if not condition.holds({**context, key: (v,)}))
    return _words(values, " and ")


def _words(values: Sequence[str], joint: str = " or ") -> str:
    text = joint.join(_shortened(value) for value in values[:_MAX_VALUES])
    left = len(values) - _MAX_VALUES
    return f"{text}{joint}{left} more" if left > 0 else text


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
