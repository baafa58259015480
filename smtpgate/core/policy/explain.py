"""The nearest miss: the Allow statement that came closest, and the element that did not match.

It is computed only for a denied request. A statement that names the caller is closer than one
that does not; then the action counts, then the resource, then the number of failed conditions.
Principals of other accounts are not named: the caller sees the explanation.
"""

from collections.abc import Sequence
from typing import Final

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.decision import NearestMiss, Request
from smtpgate.core.policy.keys import is_multivalued
from smtpgate.core.policy.operators import NULL
from smtpgate.core.policy.principals import Principals, Who
from smtpgate.core.policy.statement import Policy, PolicyKind, Statement
from smtpgate.core.policy.variables import Context

_MAX_VALUES: Final = 3
_MAX_TEXT: Final = 120

_Misfit = tuple[str, str, str]
"""The element that did not match, the value that it wanted, the value that it saw."""


def nearest_miss(
    side: PolicyKind, policies: Sequence[Policy], request: Request, who: Who
) -> NearestMiss | None:
    """The closest Allow of the side; ``None`` if it has no Allow statement."""
    allows = [s for policy in policies for s in policy.statements if not s.is_deny]
    if not allows:
        return None
    closest, (element, wanted, seen) = _closest(allows, request, who)
    cited = closest.cited
    return NearestMiss(
        side, cited.policy, cited.sid, cited.index, element, wanted, seen, cited.text
    )


def _closest(
    allows: Sequence[Statement], request: Request, who: Who
) -> tuple[Statement, _Misfit]:
    """The first of the closest statements, and the element that it fails at."""
    context = request.context
    named = [s for s in allows if not s.principals or s.principals.admits(who, denies=False)]
    principals = allows[0].principals
    if principals is not None and not named:
        element = "NotPrincipal" if principals.is_not else "Principal"
        return allows[0], (element, _named(principals, who), who.arn)
    acting = [s for s in named if s.covers_action(request.action.lower())]
    if not acting:
        element = "NotAction" if named[0].is_not_action else "Action"
        return named[0], (element, _words(named[0].actions), request.action)
    covering = [s for s in acting if s.covers_resource(request.resource, context)]
    if not covering:
        element = "NotResource" if acting[0].is_not_resource else "Resource"
        return acting[0], (element, _words(acting[0].resources), request.resource)
    closest = min(covering, key=lambda statement: len(_failed(statement, context)))
    condition = _failed(closest, context)[0]
    misfit = _element(condition), _words(condition.values), _seen(condition, context)
    return closest, misfit


def _failed(statement: Statement, context: Context) -> list[Condition]:
    return [condition for condition in statement.conditions if not condition.holds(context)]


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
        # Of many recipients, only those that do not match are shown.
        values = tuple(v for v in values if not condition.holds({**context, key: (v,)}))
    return _words(values, " and ")


def _words(values: Sequence[str], joint: str = " or ") -> str:
    text = joint.join(_shortened(value) for value in values[:_MAX_VALUES])
    left = len(values) - _MAX_VALUES
    return f"{text}{joint}{left} more" if left > 0 else text


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
