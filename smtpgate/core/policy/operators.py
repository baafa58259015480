"""Condition operators: one row each.

An operator compares one value of the request with all values of the document. Its matcher
returns ``True`` if any of them matches, ``False`` if none does, and ``None`` if a value of
either side is not of the operator's type; then no condition of an Allow holds, and each of a
Deny does.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from smtpgate.core.policy.match import Piece, Wild, any_arn, any_glob
from smtpgate.core.policy.values import (
    in_network,
    read_address,
    read_binary,
    read_bool,
    read_instant,
    read_network,
    read_number,
)

Family = Literal["string", "number", "date", "bool", "binary", "ip", "arn", "null"]
Verdict = Callable[[str], bool | None]
Text = Sequence[Piece]
Read = Callable[[str], Any]

NULL: Final = "Null"
SET_OPERATORS: Final = ("ForAllValues", "ForAnyValue")


@dataclass(frozen=True, slots=True)
class ConditionOperator:
    """One operator: the type of its values, their comparison, and its negation.

    ``read`` parses a value of the document, or returns ``None``; operators without it compare
    texts, which may contain variables and, with ``wildcards``, ``*`` and ``?``.
    """

    family: Family
    matcher: Callable[[Sequence[Any]], Verdict]
    negated: bool = False
    read: Read | None = None
    expects: str = ""
    wildcards: bool = False


def _literal(text: Text) -> str:
    return "".join(piece.value if isinstance(piece, Wild) else piece for piece in text)


def _equal(values: Iterable[Text]) -> Verdict:
    return frozenset(map(_literal, values)).__contains__


def _equal_ignoring_case(values: Iterable[Text]) -> Verdict:
    wanted = frozenset(_literal(value).lower() for value in values)
    return lambda text: text.lower() in wanted


def _compared(read: Read, holds: Callable[[Any, Any], bool]) -> Callable[..., Verdict]:
    """Read the request's value and compare it with each of the document's."""

    def matcher(values: Iterable[Any]) -> Verdict:
        wanted = tuple(values)

        def matches(text: str) -> bool | None:
            value = read(text)
            return None if value is None else any(holds(value, other) for other in wanted)

        return matches

    return matcher


def _same_octets(values: Iterable[bytes]) -> Verdict:
    """Compare octets: those of the request's text itself, or of its base64."""
    wanted = frozenset(values)

    def matches(text: str) -> bool | None:
        octets = read_binary(text)
        if text.encode("utf-8", "surrogatepass") in wanted or octets in wanted:
            return True
        return None if octets is None else False

    return matches


def _numeric(holds: Callable[[Any, Any], bool], *, negated: bool = False) -> ConditionOperator:
    return ConditionOperator(
        "number", _compared(read_number, holds), negated, read_number, "a number"
    )


def _date(holds: Callable[[Any, Any], bool], *, negated: bool = False) -> ConditionOperator:
    expects = "a date such as `2026-01-31T12:00:00Z' or epoch seconds"
    return ConditionOperator(
        "date", _compared(read_instant, holds), negated, read_instant, expects
    )


def _arn(*, negated: bool = False) -> ConditionOperator:
    expects = "an ARN, or a pattern of one such as `arn:aws:iam::111122223333:user/*'"
    return ConditionOperator("arn", any_arn, negated, expects=expects, wildcards=True)


def _ip(*, negated: bool = False) -> ConditionOperator:
    expects = "an address or network such as `192.0.2.0/24'"
    return ConditionOperator(
        "ip", _compared(read_address, in_network), negated, read_network, expects
    )


_BOOL: Final = "`true' or `false'"

OPERATORS: Final = {
    "StringEquals": ConditionOperator("string", _equal),
    "StringNotEquals": ConditionOperator("string", _equal, negated=True),
    "StringEqualsIgnoreCase": ConditionOperator("string", _equal_ignoring_case),
    "StringNotEqualsIgnoreCase": ConditionOperator(
        "string", _equal_ignoring_case, negated=True
    ),
    "StringLike": ConditionOperator("string", any_glob, wildcards=True),
    "StringNotLike": ConditionOperator("string", any_glob, negated=True, wildcards=True),
    "NumericEquals": _numeric(operator.eq),
    "NumericNotEquals": _numeric(operator.eq, negated=True),
    "NumericLessThan": _numeric(operator.lt),
    "NumericLessThanEquals": _numeric(operator.le),
    "NumericGreaterThan": _numeric(operator.gt),
    "NumericGreaterThanEquals": _numeric(operator.ge),
    "DateEquals": _date(operator.eq),
    "DateNotEquals": _date(operator.eq, negated=True),
    "DateLessThan": _date(operator.lt),
    "DateLessThanEquals": _date(operator.le),
    "DateGreaterThan": _date(operator.gt),
    "DateGreaterThanEquals": _date(operator.ge),
    "Bool": ConditionOperator(
        "bool", _compared(read_bool, operator.eq), read=read_bool, expects=_BOOL
    ),
    "BinaryEquals": ConditionOperator(
        "binary", _same_octets, read=read_binary, expects="base64"
    ),
    "IpAddress": _ip(),
    "NotIpAddress": _ip(negated=True),
    "ArnEquals": _arn(),
    "ArnLike": _arn(),
    "ArnNotEquals": _arn(negated=True),
    "ArnNotLike": _arn(negated=True),
    # The one operator about a key's absence; conditions evaluate it themselves.
    NULL: ConditionOperator("null", _equal, read=read_bool, expects=_BOOL),
}
