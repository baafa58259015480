"""Policies and statements as values, compiled so that a decision parses no text."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from msgspec import Struct, field
from msgspec.structs import force_setattr

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.keys import is_of_message
from smtpgate.core.policy.match import Arns, Globs, arns_of, globs_of, pieces_of
from smtpgate.core.policy.principals import Principals, Who
from smtpgate.core.policy.variables import Context, Template
from smtpgate.core.policy.written import Written

PolicyKind = Literal["identity", "user"]
Effect = Literal["Allow", "Deny"]
ANYTHING: Final = "*"
_MAX_ASKED: Final = 16
_NO_ARNS: Final = arns_of(())


class Determining(Written, frozen=True, gc=False):
    """A statement that determined a decision; ``text`` is the statement as JSON, if known."""

    side: PolicyKind
    policy: str
    sid: str | None
    index: int
    text: str = ""

    def written(self) -> tuple[object, ...]:
        """The fields that name the statement."""
        return self.side, self.policy, self.sid, self.index

    def without_text(self) -> "Determining":
        """The same statement, without its JSON."""
        return Determining(self.side, self.policy, self.sid, self.index)

    def __str__(self) -> str:
        named = f"statement `{self.sid}'" if self.sid else f"Statement[{self.index}]"
        return f"{named} of policy `{self.policy}'"


class Resources(Struct, frozen=True, gc=False):
    """The resources of a statement; those with variables are prepared for each request.

    A resource that is no ARN is covered by ``*`` alone.
    """

    is_not: bool
    is_anything: bool
    arns: Arns
    templates: tuple[Template, ...] = ()

    def cover(self, resource: str, context: Context) -> bool:
        """True if the statement is about the resource."""
        if self.is_anything:
            return not self.is_not
        arns = _resolved(self.templates, context) if self.templates else self.arns
        return bool(arns.matches(resource)) is not self.is_not


class Statement(Written, frozen=True, gc=False):
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
    cited: Determining
    action_globs: Globs
    covering: Resources
    path: str

    def written(self) -> tuple[object, ...]:
        """Its elements."""
        return (
            (self.index, self.sid, self.effect, self.principals),
            (self.actions, self.is_not_action, self.resources, self.is_not_resource),
            self.conditions,
        )

    def keys_asked(self) -> Iterator[str]:
        """The condition keys that it asks for, also those of variables."""
        templates = [*self.covering.templates]
        for condition in self.conditions:
            yield condition.folded_key
            templates += condition.templates
        for template in templates:
            for variable in template.variables:
                yield variable.key

    @property
    def is_deny(self) -> bool:
        """True if its effect is Deny."""
        return self.effect == "Deny"

    def covers_action(self, action: str) -> bool:
        """True if it is about the action, which is in lower case."""
        return self.action_globs.matches(action) is not self.is_not_action

    def covers_resource(self, resource: str, context: Context) -> bool:
        """True if it is about the resource."""
        return self.covering.cover(resource, context)

    def is_about(self, topic: "Topic", who: Who) -> bool:
        """True if it applies to requests about the topic, whose context meets it."""
        principals = self.principals
        return (
            (principals is None or principals.admits(who, denies=self.is_deny))
            and self.covers_action(topic.action)
            and (bool(self.covering.templates) or self.covers_resource(topic.resource, {}))
        )

    def is_met_by(self, context: Context, resource: str) -> bool:
        """True if the context of a request about its topic meets it."""
        for condition in self.conditions:
            if not condition.holds(context):
                return False
        return not self.covering.templates or self.covers_resource(resource, context)


def globs_of_actions(patterns: Iterable[str]) -> Globs:
    """A test of a lower-case action."""
    return globs_of([pieces_of(pattern.lower()) for pattern in patterns])


def resources_of(templates: Sequence[Template], *, is_not: bool) -> Resources:
    """A test of a resource's ARN."""
    star = pieces_of(ANYTHING)
    if any(template.parts == star for template in templates):
        return Resources(is_not, is_anything=True, arns=_NO_ARNS)
    if any(template.variables for template in templates):
        return Resources(is_not, is_anything=False, arns=_NO_ARNS, templates=tuple(templates))
    return Resources(is_not, is_anything=False, arns=_resolved(templates, {}))


def _resolved(templates: Iterable[Template], context: Context) -> Arns:
    resolved = (template.resolve(context) for template in templates)
    return arns_of([pieces for pieces in resolved if pieces is not None])


class Topic(Struct, frozen=True, gc=False):
    """A request without its context; the action is in lower case.

    It is the key of the results that are kept, so it names everything that they depend on,
    ``caller_arn`` too.
    """

    caller_arn: str
    account_id: str
    is_root: bool
    action: str
    resource: str

    def about(self, resource: str) -> "Topic":
        """The same request for another resource."""
        return Topic(self.caller_arn, self.account_id, self.is_root, self.action, resource)


class _Found(Struct, frozen=True, gc=False):
    """The statements about a topic."""

    statements: tuple[Statement, ...]


class Policy(Written, frozen=True, gc=False):
    """A policy document of an identity or of a user (``kind``).

    Statements are looked up by the caller's account, so that those about others cost nothing.
    ``patterns`` is the number of patterns in conditions, without those on recipients.
    ``asks_of_message``: a statement asks for a fact of one message alone. ``octets`` is the
    length of the statements as JSON.

    The directory keeps very many. Nothing in a policy refers back to it, so Python frees it
    without its garbage collector, which never looks at it.
    """

    name: str
    kind: PolicyKind
    version: str | None
    id: str | None
    statements: tuple[Statement, ...]
    # Made of the statements.
    patterns: int = 0
    recipient_patterns: int = 0
    asks_of_message: bool = True
    octets: int = 0
    _accounts: tuple[str, ...] = ()  # sorted; the statements of each are in _by_account
    _by_account: tuple[tuple[Statement, ...], ...] = ()
    _for_anyone: tuple[Statement, ...] = ()
    _asked: dict[Topic, _Found] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {True: 0, False: 0}
        by_account: dict[str, list[Statement]] = {}
        for_anyone: list[Statement] = []
        for statement in self.statements:
            for condition in statement.conditions:
                if condition.operator.row.wildcards:
                    is_of_recipients = condition.folded_key == "ses:recipients"
                    counts[is_of_recipients] += len(condition.values)
            accounts = statement.principals.accounts() if statement.principals else None
            if accounts is None:
                for_anyone.append(statement)
            for account in accounts or ():
                by_account.setdefault(account, []).append(statement)
        force_setattr(self, "patterns", counts[False])
        force_setattr(self, "recipient_patterns", counts[True])
        asks = any(is_of_message(key) for one in self.statements for key in one.keys_asked())
        force_setattr(self, "asks_of_message", asks)
        force_setattr(self, "octets", sum(len(one.cited.text) for one in self.statements))
        force_setattr(self, "_accounts", tuple(sorted(by_account)))
        of_each = (tuple(by_account[account]) for account in self._accounts)
        force_setattr(self, "_by_account", tuple(of_each))
        force_setattr(self, "_for_anyone", tuple(for_anyone))

    def written(self) -> tuple[object, ...]:
        """Its elements, with its name and kind."""
        return self.name, self.kind, self.version, self.id, self.statements

    def applicable(self, topic: Topic, who: Who) -> tuple[Statement, ...]:
        """The statements about the topic; the context decides which of them apply.

        The results for the last few topics are kept: requests of a delegate repeat.
        """
        known = self._asked.get(topic)
        if known is None:
            known = _Found(tuple(self._find(topic, who)))
            if len(self._asked) >= _MAX_ASKED:
                self._asked.clear()
            self._asked[topic] = known
        return known.statements

    def _find(self, topic: Topic, who: Who) -> Iterator[Statement]:
        statements = self._for_anyone
        at = bisect_left(self._accounts, who.account_id)
        if self._accounts[at : at + 1] == (who.account_id,):
            statements = (*self._by_account[at], *statements)
        for statement in sorted(statements, key=lambda one: one.index):
            if statement.is_about(topic, who):
                yield statement
