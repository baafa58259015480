"""Possible access: the conditions, beyond the known facts, under which a caller is allowed.

The answer to "who can send as ceo@example.com?" is not one decision but the conditions of an
Allow. Conditions on known keys are decided; the others are returned in words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.decision import Request
from smtpgate.core.policy.keys import is_multivalued, known_key
from smtpgate.core.policy.operators import NULL
from smtpgate.core.policy.principals import Who, who_is
from smtpgate.core.policy.statement import Determining, Policy, Statement
from smtpgate.core.policy.variables import Context

_SHOWN: Final = 3
_ABOUT_CALLER: Final = ("aws:principal", "aws:user")


@dataclass(frozen=True, slots=True)
class Clause:
    """A statement that may apply, and its undecided conditions in words."""

    statement: Determining
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """The ways to an Allow: any of the ``user`` clauses with any of the ``identity`` clauses.

    A side that is not needed is empty. ``unless`` are Deny statements that could still apply.
    """

    user: tuple[Clause, ...]
    identity: tuple[Clause, ...]
    unless: tuple[Clause, ...]


def possible_access(
    request: Request,
    *,
    identity_policies: Sequence[Policy],
    user_policies: Sequence[Policy],
    more_specific: Sequence[tuple[str, Sequence[Policy]]] = (),
) -> Access | None:
    """The possible access of the request's caller, or ``None`` if every request is denied.

    The request's context has all known keys, with those about the caller; nothing is assumed
    about other keys.
    """
    who = who_is(request.caller)
    user = [*_possible(user_policies, request, who, request.resource)]
    identity = [*_possible(identity_policies, request, who, request.resource)]
    denies = [pair for pair in (*user, *identity) if pair[0].is_deny]
    for arn, policies in more_specific:
        denies += (p for p in _possible(policies, request, who, arn) if p[0].is_deny)
    if any(not left for _, left in denies):
        return None
    user = [pair for pair in user if not pair[0].is_deny]
    identity = [pair for pair in identity if not pair[0].is_deny]
    sides = _sides(user, identity, request, who)
    if sides is None:
        return None
    return Access(_clauses(sides[0]), _clauses(sides[1]), _clauses(denies))


_Possible = tuple[Statement, tuple[Condition, ...]]


def _sides(
    user: Sequence[_Possible], identity: Sequence[_Possible], request: Request, who: Who
) -> tuple[Sequence[_Possible], Sequence[_Possible]] | None:
    """The Allow statements of each side that count, by the owner of the identity."""
    owner = request.resource.split(":", 5)[4:5]
    if owner != [who.account_id]:
        if (not user and not who.caller.is_root) or not identity:
            return None
        return user, identity
    if who.caller.is_root or user:
        return user, ()
    # Within an account, an Allow that names the user itself, or everyone, suffices.
    direct = [pair for pair in identity if _suffices_alone(pair[0], who)]
    return ((), direct) if direct else None


def _suffices_alone(statement: Statement, who: Who) -> bool:
    return statement.principals is not None and statement.principals.suffices_alone(who)


def _possible(
    policies: Sequence[Policy], request: Request, who: Who, resource: str
) -> Iterator[_Possible]:
    """The statements that can still apply, each with its undecided conditions."""
    known = request.context
    for policy in policies:
        for statement in policy.statements:
            principals = statement.principals
            if principals is not None and not principals.admits(who, denies=statement.is_deny):
                continue
            if not statement.covers_action(request.action.lower()):
                continue
            if not statement.covers_resource(resource, known):
                continue
            verdicts = [
                (condition, _verdict(condition, known)) for condition in statement.conditions
            ]
            if all(verdict is not False for _, verdict in verdicts):
                yield statement, tuple(c for c, verdict in verdicts if verdict is None)


def _verdict(condition: Condition, known: Context) -> bool | None:
    """True or False if the known keys decide the condition, else ``None``."""
    name, operator = condition.key.lower(), condition.operator
    key = known_key(name)
    if operator.base == NULL:
        if name not in known and key is not None and key.presence == "always":
            return condition.holds({name: ("",)})
    elif is_multivalued(name) and not operator.set_operator:
        return False
    is_absent = key is None or key.presence == "never" or name.startswith(_ABOUT_CALLER)
    is_known = name in known or is_absent
    if not is_known or not all(_is_filled_in(value, known) for value in condition.values):
        return None
    return condition.holds(known)


def _is_filled_in(value: str, known: Context) -> bool:
    """True if the keys of all variables in a value are known."""
    variables = (part.partition("}")[0].partition(",")[0] for part in value.split("${")[1:])
    return all(variable.lower() in known or variable in "*?$" for variable in variables)


def _clauses(pairs: Sequence[_Possible]) -> tuple[Clause, ...]:
    return tuple(
        Clause(statement.cited, tuple(in_words(condition) for condition in left))
        for statement, left in pairs
    )


def in_words(condition: Condition) -> str:
    """A condition in plain words."""
    operator = condition.operator
    if operator.base == NULL:
        return f"{condition.key} is {'absent' if condition.holds({}) else 'present'}"
    shown = [f"`{value}'" for value in condition.values[:_SHOWN]]
    left = len(condition.values) - _SHOWN
    values = " or ".join([*shown, *([f"{left} more"] if left > 0 else [])])
    quantity = {"ForAllValues": "every ", "ForAnyValue": "some "}.get(operator.set_operator, "")
    words = _WORDS[operator.base]
    unless = ", if there is any" if operator.if_exists else ""
    return f"{quantity}{condition.key} {words} {values}{unless}"


_WORDS: Final = {
    "StringEquals": "is",
    "StringNotEquals": "is not",
    "StringEqualsIgnoreCase": "is, in any letter case,",
    "StringNotEqualsIgnoreCase": "is not, in any letter case,",
    "StringLike": "is like",
    "StringNotLike": "is not like",
    "NumericEquals": "is",
    "NumericNotEquals": "is not",
    "NumericLessThan": "is less than",
    "NumericLessThanEquals": "is at most",
    "NumericGreaterThan": "is more than",
    "NumericGreaterThanEquals": "is at least",
    "DateEquals": "is",
    "DateNotEquals": "is not",
    "DateLessThan": "is before",
    "DateLessThanEquals": "is not after",
    "DateGreaterThan": "is after",
    "DateGreaterThanEquals": "is not before",
    "Bool": "is",
    "BinaryEquals": "is",
    "IpAddress": "is in",
    "NotIpAddress": "is not in",
    "ArnEquals": "is like",
    "ArnNotEquals": "is not like",
    "ArnLike": "is like",
    "ArnNotLike": "is not like",
}
