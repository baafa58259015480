"""Condition operators: one row each.

An operator prepares the values of a document once (``prepare``), and compares one value of a
request with all of them (``matches``): ``True`` if any of them matches, ``False`` if none does,
and ``None`` if a value of either side is not of the operator's type; then no condition of an
Allow holds, and each of a Deny does.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

import operator
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from smtpgate.core.policy.match import Arns, Globs, Piece, Wild, arns_of, globs_of, lookup
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
Prepare = Callable[[Iterable[Any]], Any]
Matches = Callable[[Any, str], bool | None]
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
    prepare: Prepare
    matches: Matches
    negated: bool = False
    read: Read | None = None
    expects: str = ""
    wildcards: bool = False


def _literal(text: Text) -> str:
    return "".join(piece.text if isinstance(piece, Wild) else piece for piece in text)


def _literals(values: Iterable[Text]) -> Container[str]:
    return lookup(map(_literal, values))


def _is_among(wanted: Container[str], text: str) -> bool:
    return text in wanted


def _folded_literals(values: Iterable[Text]) -> Container[str]:
    return lookup(_literal(value).lower() for value in values)


def _is_among_folded(wanted: Container[str], text: str) -> bool:
    return text.lower() in wanted


def _compared(read: Read, holds: Callable[[Any, Any], bool]) -> Matches:
    """Read the request's value and compare it with each of the document's."""

    def matches(wanted: Sequence[Any], text: str) -> bool | None:
        value = read(text)
        return None if value is None else any(holds(value, other) for other in wanted)

    return matches


def _is_among_octets(wanted: Container[bytes], text: str) -> bool | None:
    """Compare octets: those of the request's text itself, or of its base64."""
    octets = read_binary(text)
    if text.encode("utf-8", "surrogatepass") in wanted:
        return True
    return None if octets is None else octets in wanted


def _numeric(holds: Callable[[Any, Any], bool], *, negated: bool = False) -> ConditionOperator:
    return ConditionOperator(
        "number", tuple, _compared(read_number, holds), negated, read_number, "a number"
    )


def _date(holds: Callable[[Any, Any], bool], *, negated: bool = False) -> ConditionOperator:
    expects = "a date such as `2026-01-31T12:00:00Z' or epoch seconds"
    return ConditionOperator(
        "date", tuple, _compared(read_instant, holds), negated, read_instant, expects
    )


def _arn(*, negated: bool = False) -> ConditionOperator:
    expects = "an ARN, or a pattern of one such as `arn:aws:iam::111122223333:user/*'"
    return ConditionOperator(
        "arn", arns_of, Arns.matches, negated, expects=expects, wildcards=True
    )


def _ip(*, negated: bool = False) -> ConditionOperator:
    expects = "an address or network such as `192.0.2.0/24'"
    return ConditionOperator(
        "ip", tuple, _compared(read_address, in_network), negated, read_network, expects
    )


def _text(*, negated: bool = False) -> ConditionOperator:
    return ConditionOperator("string", _literals, _is_among, negated)


def _folded_text(*, negated: bool = False) -> ConditionOperator:
    return ConditionOperator("string", _folded_literals, _is_among_folded, negated)


def _glob(*, negated: bool = False) -> ConditionOperator:
    return ConditionOperator("string", globs_of, Globs.matches, negated, wildcards=True)


_BOOL: Final = "`true' or `false'"

OPERATORS: Final = {
    "StringEquals": _text(),
    "StringNotEquals": _text(negated=True),
    "StringEqualsIgnoreCase": _folded_text(),
    "StringNotEqualsIgnoreCase": _folded_text(negated=True),
    "StringLike": _glob(),
    "StringNotLike": _glob(negated=True),
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
        "bool", tuple, _compared(read_bool, operator.eq), read=read_bool, expects=_BOOL
    ),
    "BinaryEquals": ConditionOperator(
        "binary", lookup, _is_among_octets, read=read_binary, expects="base64"
    ),
    "IpAddress": _ip(),
    "NotIpAddress": _ip(negated=True),
    "ArnEquals": _arn(),
    "ArnLike": _arn(),
    "ArnNotEquals": _arn(negated=True),
    "ArnNotLike": _arn(negated=True),
    # The one operator about a key's absence; conditions evaluate it themselves.
    NULL: ConditionOperator("null", tuple, _is_among, read=read_bool, expects=_BOOL),
}
