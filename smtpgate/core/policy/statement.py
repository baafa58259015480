"""Policies and statements as values, compiled so that a decision parses no text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NamedTuple

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.match import any_arn, any_glob, pieces_of
from smtpgate.core.policy.principals import Principals, Who
from smtpgate.core.policy.variables import Context, Template

PolicyKind = Literal["identity", "user"]
Effect = Literal["Allow", "Deny"]
ANYTHING: Final = "*"
_MAX_ASKED: Final = 16


@dataclass(frozen=True, slots=True)
class Determining:
    """A statement that determined a decision; ``text`` is the statement as JSON, if known."""

    side: PolicyKind
    policy: str
    sid: str | None
    index: int
    text: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        named = f"statement `{self.sid}'" if self.sid else f"Statement[{self.index}]"
        return f"{named} of policy `{self.policy}'"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, with its elements as written; ``principals`` only in identity policies."""

    index: int
    sid: str | None
    effect: Effect
    principals: Principals | None
    actions: tuple[str, ...]
    is_not_action: bool
    resources: tuple[str, ...]
    is_not_resource: bool
    conditions: tuple[Condition, ...]
    cited: Determining = field(compare=False, repr=False)
    covers_action: Callable[[str], bool] = field(compare=False, repr=False)
    covers_resource: Callable[[str, Context], bool] = field(compare=False, repr=False)
    path: str = field(compare=False, repr=False)

    @property
    def has_variable_resource(self) -> bool:
        """True if the resources depend on the context of a request."""
        return any("${" in resource for resource in self.resources)

    @property
    def is_deny(self) -> bool:
        """True if its effect is Deny."""
        return self.effect == "Deny"


def compile_actions(patterns: Iterable[str], *, is_not: bool) -> Callable[[str], bool]:
    """A test of a lower-case action."""
    covers = any_glob([pieces_of(pattern.lower()) for pattern in patterns])
    return (lambda action: not covers(action)) if is_not else covers


def compile_resources(
    templates: Sequence[Template], *, is_not: bool
) -> Callable[[str, Context], bool]:
    """A test of a resource's ARN; a resource that is no ARN is covered by ``*`` alone."""
    star = pieces_of(ANYTHING)
    if any(template.parts == star for template in templates):
        return (
            (lambda _resource, _context: False)
            if is_not
            else (lambda _resource, _context: True)
        )
    if not any(template.variables for template in templates):
        covers = any_arn([template.resolve({}) or () for template in templates])
        return lambda resource, _context: bool(covers(resource)) is not is_not

    def covers_late(resource: str, context: Context) -> bool:
        resolved = (template.resolve(context) for template in templates)
        matches = any_arn([pieces for pieces in resolved if pieces is not None])
        return bool(matches(resource)) is not is_not

    return covers_late


class Topic(NamedTuple):
    """A request without its context; the action is in lower case.

    It is the key of the results that are kept, so it names everything that they depend on,
    ``caller_arn`` too.
    """

    caller_arn: str
    account_id: str
    is_root: bool
    action: str
    resource: str


Applicable = tuple[Statement, tuple[Callable[[Context], bool], ...]]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document of an identity or of a user (``kind``).

    Statements are looked up by the caller's account, so that those about others cost nothing.
    ``patterns`` is the number of patterns in conditions, without those on recipients.
    """

    name: str
    kind: PolicyKind
    version: str | None
    id: str | None
    statements: tuple[Statement, ...]
    patterns: int = field(init=False, compare=False, repr=False, default=0)
    recipient_patterns: int = field(init=False, compare=False, repr=False, default=0)
    _by_account: dict[str, list[Statement]] = field(
        init=False, compare=False, repr=False, default_factory=dict
    )
    _for_anyone: list[Statement] = field(
        init=False, compare=False, repr=False, default_factory=list
    )
    _asked: dict[Topic, tuple[Applicable, ...]] = field(
        init=False, compare=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        counts = {True: 0, False: 0}
        for statement in self.statements:
            for condition in statement.conditions:
                if condition.operator.row.wildcards:
                    is_of_recipients = condition.key.lower() == "ses:recipients"
                    counts[is_of_recipients] += len(condition.values)
        object.__setattr__(self, "patterns", counts[False])
        object.__setattr__(self, "recipient_patterns", counts[True])
        for statement in self.statements:
            accounts = statement.principals.accounts() if statement.principals else None
            if accounts is None:
                self._for_anyone.append(statement)
            for account in accounts or ():
                self._by_account.setdefault(account, []).append(statement)

    def applicable(self, topic: Topic, who: Who) -> tuple[Applicable, ...]:
        """The statements about the topic, each with the tests that decide if it applies.

        The results for the last few topics are kept: requests of a delegate repeat.
        """
        known = self._asked.get(topic)
        if known is None:
            known = tuple(self._find(topic, who))
            if len(self._asked) >= _MAX_ASKED:
                self._asked.clear()
            self._asked[topic] = known
        return known

    def _find(self, topic: Topic, who: Who) -> Iterator[Applicable]:
        about_account = self._by_account.get(who.account_id, [])
        for statement in sorted([*about_account, *self._for_anyone], key=lambda s: s.index):
            principals = statement.principals
            if principals is not None and not principals.admits(who, denies=statement.is_deny):
                continue
            if not statement.covers_action(topic.action):
                continue
            tests = tuple(condition.holds for condition in statement.conditions)
            if statement.has_variable_resource:
                covers = partial(statement.covers_resource, topic.resource)
                yield statement, (covers, *tests)
            elif statement.covers_resource(topic.resource, {}):
                yield statement, tests
