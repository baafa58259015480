"""Policies and statements as values, compiled so that a decision reads no text."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.match import any_arn, any_glob, pieces_of
from smtpgate.core.policy.principals import Principals
from smtpgate.core.policy.variables import Context, Template

__all__ = [
    "ANYTHING",
    "Determining",
    "Effect",
    "Kind",
    "Policy",
    "Statement",
    "compile_actions",
    "compile_resources",
]

Kind = Literal["identity", "user"]
Effect = Literal["Allow", "Deny"]
ANYTHING: Final = "*"


@dataclass(frozen=True, slots=True)
class Determining:
    """A statement by which a decision was made."""

    side: Kind
    policy: str
    sid: str | None
    index: int

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
    def is_deny(self) -> bool:
        """Whether it forbids."""
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


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document; ``kind`` says whether it is an identity's or a user's.

    Statements are looked up by the caller's account, so that those about others cost nothing.
    """

    name: str
    kind: Kind
    version: str | None
    id: str | None
    statements: tuple[Statement, ...]
    _by_account: MappingProxyType[str, tuple[Statement, ...]] = field(
        init=False, compare=False, repr=False
    )
    _for_anyone: tuple[Statement, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        reach = [
            statement.principals.accounts() if statement.principals else None
            for statement in self.statements
        ]
        accounts = frozenset[str]().union(*(named for named in reach if named is not None))
        pairs = list(zip(self.statements, reach, strict=True))
        by_account = {
            account: tuple(s for s, named in pairs if named is None or account in named)
            for account in accounts
        }
        anyone = tuple(s for s, named in pairs if named is None)
        object.__setattr__(self, "_by_account", MappingProxyType(by_account))
        object.__setattr__(self, "_for_anyone", anyone)

    def statements_about(self, account_id: str) -> tuple[Statement, ...]:
        """The statements that may be about callers of the account."""
        return self._by_account.get(account_id, self._for_anyone)
