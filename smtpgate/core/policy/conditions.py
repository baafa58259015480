"""One condition of a statement: an operator, a key, and values; compiled when it is read.

All conditions of a statement must hold. Values of one key are alternatives; with a negated
operator none of them may match. The meaning of an absent key depends on the operator:

=================================  ===========
operator                           key absent
=================================  ===========
positive                           fails
negated                            holds
``…IfExists``                      holds
``ForAllValues:``                  holds
``ForAnyValue:``                   fails
=================================  ===========

A key that can have several values in a request never matches without a set operator, with any
number of values, and also with a negated operator.

A value that the operator cannot read (such as text that is not a date) satisfies no condition
of an Allow and each condition of a Deny, negated or not: values that are not understood are
refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from smtpgate.core.policy.keys import is_multivalued
from smtpgate.core.policy.match import Piece, is_arn_pattern
from smtpgate.core.policy.operators import (
    NULL,
    OPERATORS,
    SET_OPERATORS,
    ConditionOperator,
    Verdict,
)
from smtpgate.core.policy.problem import hint, shown
from smtpgate.core.policy.variables import Context, Template, TemplateError, parse_template

Test = Callable[[Context], bool]
_Fits = Callable[[str], bool]
_IF_EXISTS: Final = "IfExists"
_TAG_IDIOM: Final = "+.*@"


class ConditionError(ValueError):
    """An operator's name that is not known, or values that it cannot read."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class OperatorName:
    """An operator as written: ``ForAnyValue:StringLikeIfExists`` taken apart."""

    text: str
    base: str
    set_operator: str = ""
    if_exists: bool = False

    @property
    def row(self) -> ConditionOperator:
        """The row of the operator."""
        return OPERATORS[self.base]


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of a statement, with its values as written.

    ``reads_tag_idiom``: ``+.*@`` in the values is read in the sense of the announcement.
    """

    operator: OperatorName
    key: str
    values: tuple[str, ...]
    holds: Test = field(compare=False, repr=False)
    reads_tag_idiom: bool = False

    @property
    def element(self) -> str:
        """The operator and the key, for explanations."""
        return f"{self.operator.text} {self.key}"


def read_operator(text: str) -> OperatorName:
    """Take an operator's name apart. Raises ConditionError."""
    prefix, colon, rest = text.rpartition(":")
    if colon and prefix not in SET_OPERATORS:
        raise ConditionError(
            f"unknown set operator {shown(prefix)}{hint(prefix, SET_OPERATORS)}"
        )
    if rest in OPERATORS:
        name = OperatorName(text, rest, prefix)
    elif rest.removesuffix(_IF_EXISTS) in OPERATORS:
        name = OperatorName(text, rest.removesuffix(_IF_EXISTS), prefix, if_exists=True)
    else:
        known = [*OPERATORS, *(base + _IF_EXISTS for base in OPERATORS if base != NULL)]
        raise ConditionError(f"unknown operator {shown(rest)}{hint(rest, known)}")
    if name.base == NULL and (name.set_operator or name.if_exists):
        raise ConditionError("`Null' asks for absence itself and takes no prefix or suffix")
    return name


def compile_condition(
    name: OperatorName,
    key: str,
    values: tuple[str, ...],
    *,
    denies: bool,
    variables: bool,
    address_tag_idiom: bool = False,
) -> Condition:
    """Read the values and make the test, for a Deny or an Allow. Raises ConditionError."""
    folded = key.lower()
    if name.base == NULL:
        wanted = frozenset(_read_all(name.row, values))
        return Condition(name, key, values, partial(_is_absent, folded, wanted))
    row = name.row
    if row.read is not None:
        verdict = row.matcher(_read_all(row, values))
        return Condition(name, key, values, _test(name, folded, verdict, denies=denies))
    idiom = address_tag_idiom and is_glob(row)
    texts = _spread(values) if idiom else values
    templates = _read_templates(texts, row, variables=variables)
    if any(template.variables for template in templates):
        test = _late_test(name, folded, partial(_bind, row, templates), denies=denies)
    else:
        test = _test(name, folded, row.matcher(_resolved(templates, {})), denies=denies)
    return Condition(name, key, values, test, reads_tag_idiom=idiom)


def is_glob(row: ConditionOperator) -> bool:
    """True if the operator compares texts with globs."""
    return row.family == "string" and row.wildcards


def _spread(values: Sequence[str]) -> list[str]:
    """Read ``name+.*@`` as the mailbox and all its ``+tag`` addresses."""
    spread: list[str] = []
    for value in values:
        if _TAG_IDIOM in value:
            spread += [value.replace(_TAG_IDIOM, "@"), value.replace(_TAG_IDIOM, "+*@")]
        else:
            spread.append(value)
    return spread


def _read_all(row: ConditionOperator, values: Sequence[str]) -> list[object]:
    read = row.read or str
    pairs = [(text, read(text)) for text in values]
    bad = [f"{shown(text)} is not {row.expects}" for text, value in pairs if value is None]
    if bad:
        raise ConditionError(*bad)
    return [value for _, value in pairs]


def _read_templates(
    texts: Sequence[str], row: ConditionOperator, *, variables: bool
) -> list[Template]:
    templates: list[Template] = []
    bad: list[str] = []
    for text in texts:
        try:
            template = parse_template(text, variables=variables, wildcards=row.wildcards)
        except TemplateError as error:
            bad.append(str(error))
            continue
        templates.append(template)
        if row.family == "arn" and not _may_be_arn(template):
            bad.append(f"{shown(text)} is not {row.expects}")
    if bad:
        raise ConditionError(*bad)
    return templates


def _may_be_arn(template: Template) -> bool:
    """True if an ARN operator can read the value, or a request decides that (variables)."""
    return bool(template.variables) or is_arn_pattern(template.resolve({}) or ())


def _resolved(templates: Sequence[Template], context: Context) -> list[tuple[Piece, ...]]:
    """The values for one request; a value whose variable has no value matches nothing."""
    resolved = (template.resolve(context) for template in templates)
    return [pieces for pieces in resolved if pieces is not None]


def _bind(row: ConditionOperator, templates: Sequence[Template], context: Context) -> Verdict:
    return row.matcher(_resolved(templates, context))


def _is_absent(key: str, wanted: frozenset[object], context: Context) -> bool:
    return (not context.get(key)) in wanted


def _never(_context: Context) -> bool:
    return False


def _fits(verdict: Verdict, *, wanted: bool, denies: bool) -> _Fits:
    """A test of one value of the request.

    The verdict on a value that cannot be read is ``None``: an Allow needs the wanted verdict, a
    Deny any verdict but the opposite.
    """
    if denies:
        return lambda value: verdict(value) is not (not wanted)
    return lambda value: verdict(value) is wanted


def _one(key: str, fits: _Fits, *, when_absent: bool) -> Test:
    def holds(context: Context) -> bool:
        values = context.get(key)
        if not values:
            return when_absent
        return len(values) == 1 and fits(values[0])

    return holds


def _all(key: str, fits: _Fits, *, when_absent: bool) -> Test:
    def holds(context: Context) -> bool:
        values = context.get(key)
        if not values:
            return when_absent
        return all(map(fits, values))

    return holds


def _any(key: str, fits: _Fits, *, when_absent: bool) -> Test:
    def holds(context: Context) -> bool:
        values = context.get(key)
        if not values:
            return when_absent
        return any(map(fits, values))

    return holds


def _test(name: OperatorName, key: str, verdict: Verdict, *, denies: bool) -> Test:
    """The test that goes through the request's values as the operator asks."""
    fits = _fits(verdict, wanted=not name.row.negated, denies=denies)
    if name.set_operator == "ForAllValues":
        return _all(key, fits, when_absent=True)
    if name.set_operator == "ForAnyValue":
        return _any(key, fits, when_absent=name.if_exists)
    if is_multivalued(key):
        return _never
    return _one(key, fits, when_absent=name.if_exists or name.row.negated)


def _late_test(
    name: OperatorName, key: str, bind: Callable[[Context], Verdict], *, denies: bool
) -> Test:
    """A test whose values depend on the request."""

    def holds(context: Context) -> bool:
        return _test(name, key, bind(context), denies=denies)(context)

    return holds
