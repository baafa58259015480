"""One condition of a statement: an operator, a key, and values; prepared when it is read.

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

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from msgspec import Struct

from smtpgate.core.policy.keys import is_multivalued
from smtpgate.core.policy.match import Piece, is_arn_pattern
from smtpgate.core.policy.operators import (
    NULL,
    OPERATORS,
    SET_OPERATORS,
    ConditionOperator,
    Matches,
    Prepare,
)
from smtpgate.core.policy.problem import hint, shown
from smtpgate.core.policy.variables import Context, Template, TemplateError, parse_template
from smtpgate.core.policy.written import Written

_IF_EXISTS: Final = "IfExists"
_TAG_IDIOM: Final = "+.*@"


class ConditionError(ValueError):
    """An operator's name that is not known, or values that it cannot read."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class OperatorName(Struct, frozen=True, gc=False):
    """An operator as written: ``ForAnyValue:StringLikeIfExists`` taken apart."""

    text: str
    base: str
    set_operator: str = ""
    if_exists: bool = False

    @property
    def row(self) -> ConditionOperator:
        """The row of the operator."""
        return OPERATORS[self.base]


class Rule(Struct, frozen=True, gc=False):
    """The way in which an operator decides; conditions with the same operator share it.

    ``satisfying`` are the verdicts on one value that satisfy the condition; a value that cannot
    be read has the verdict ``None``. With several values, ``takes`` says how many of them must
    satisfy it: ``one`` is satisfied by none of them. ``when_present`` is set if the presence
    of the key decides alone.
    """

    prepare: Prepare
    matches: Matches
    satisfying: tuple[bool | None, ...]
    takes: Literal["one", "all", "any"]
    when_absent: bool
    when_present: bool | None = None


class Condition(Written, frozen=True, gc=False):
    """One test of a statement, with its values as written.

    ``prepared`` are the values as the operator compares them; values with variables are
    prepared for each request, from ``templates``. ``reads_tag_idiom``: ``+.*@`` in the values
    is read in the sense of the announcement.
    """

    operator: OperatorName
    key: str
    values: tuple[str, ...]
    folded_key: str
    rule: Rule
    prepared: Any
    templates: tuple[Template, ...] = ()
    reads_tag_idiom: bool = False

    def written(self) -> tuple[object, ...]:
        """Its operator, key and values."""
        return self.operator, self.key, self.values, self.reads_tag_idiom

    @property
    def element(self) -> str:
        """The operator and the key, for explanations."""
        return f"{self.operator.text} {self.key}"

    def holds(self, context: Context) -> bool:
        """True if the condition is met."""
        values, rule = context.get(self.folded_key), self.rule
        if not values:
            return rule.when_absent
        if rule.when_present is not None:
            return rule.when_present
        prepared, matches, satisfying = self.prepared, rule.matches, rule.satisfying
        if prepared is None:
            prepared = rule.prepare(_resolved(self.templates, context))
        if len(values) == 1:
            return matches(prepared, values[0]) in satisfying
        if rule.takes == "all":
            return all(matches(prepared, value) in satisfying for value in values)
        return rule.takes == "any" and any(
            matches(prepared, value) in satisfying for value in values
        )


@lru_cache(256)
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
    key, folded = _spelling(key)
    row = name.row
    idiom = address_tag_idiom and is_glob(row)
    if row.read is not None:
        read = _read_all(row, values)
        rule = _null_rule(frozenset(read)) if name.base == NULL else _rule(name, folded, denies)
        return Condition(name, key, values, folded, rule, row.prepare(read))
    rule = _rule(name, folded, denies)
    texts = _spread(values) if idiom else values
    templates = tuple(_read_templates(texts, row, variables=variables))
    if any(template.variables for template in templates):
        return Condition(name, key, values, folded, rule, None, templates, idiom)
    prepared = row.prepare(_resolved(templates, {}))
    return Condition(name, key, values, folded, rule, prepared, reads_tag_idiom=idiom)


@lru_cache(256)
def _spelling(key: str) -> tuple[str, str]:
    """The key as written and in lower case, as texts that many conditions share."""
    return key, key.lower()


@lru_cache(512)
def _rule(name: OperatorName, key: str, denies: bool) -> Rule:
    row, wanted = name.row, not name.row.negated
    # A Deny is satisfied by any verdict but the opposite.
    satisfying = (wanted, None) if denies else (wanted,)
    if name.set_operator == "ForAllValues":
        return Rule(row.prepare, row.matches, satisfying, "all", when_absent=True)
    if name.set_operator == "ForAnyValue":
        when_absent = name.if_exists
        return Rule(row.prepare, row.matches, satisfying, "any", when_absent)
    if is_multivalued(key):
        return Rule(row.prepare, row.matches, (), "one", when_absent=False, when_present=False)
    when_absent = name.if_exists or name.row.negated
    return Rule(row.prepare, row.matches, satisfying, "one", when_absent)


@lru_cache(4)
def _null_rule(wanted: frozenset[object]) -> Rule:
    """The rule of ``Null``: true in its values asks for absence, false for presence."""
    row = OPERATORS[NULL]
    is_wanted = True in wanted, False in wanted
    return Rule(row.prepare, row.matches, (), "one", *is_wanted)


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
