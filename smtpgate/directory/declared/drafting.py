"""What all parts of a draft share: what is compared, the order of steps, and their words."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, TypeAlias

from smtpgate.core.policy.attachment import MAX_POLICIES
from smtpgate.core.policy.problem import shown
from smtpgate.directory.declared.content import Declared, DeclaredPolicy, Place
from smtpgate.directory.declared.plan import Step
from smtpgate.directory.declared.present import Present
from smtpgate.directory.policies import (
    PolicyPlace,
    PolicyWrite,
    remove_policies,
    write_policies,
)
from smtpgate.directory.sealing import MasterKeys

__all__ = [
    "Drafting",
    "Order",
    "Ordered",
    "changed",
    "differences",
    "joined",
    "policy_steps",
    "stated",
]

# How documents call what a column is not called after.
_WORDS: Final = {
    "organization_id": "organization",
    "is_active": "active",
    "expires_at": "expires",
}


class Order(IntEnum):
    """When a step is taken: owners before what is theirs, and room made before it is filled."""

    ACCOUNT = 0
    USER = 1
    KEY_AWAY = 2
    KEY = 3
    IDENTITY = 4
    POLICY_AWAY = 5
    POLICY = 6
    CAP_AWAY = 7
    CAP = 8
    DKIM_AWAY = 9
    DKIM = 10
    IDENTITY_AWAY = 11
    USER_AWAY = 12
    ACCOUNT_AWAY = 13


Ordered: TypeAlias = tuple[Order, Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """A draft in progress; ``problems`` is what makes it impossible."""

    declared: Declared
    present: Present
    master_keys: MasterKeys = field(repr=False)
    region: str
    partition: str
    prune: bool
    now: datetime
    problems: list[str] = field(default_factory=list)

    def note(self, place: Place, problem: str) -> None:
        """Note why it cannot be done."""
        self.problems.append(f"{place}: {problem}")

    def note_crowd(self, place: Place, named: Set[str], there: Set[str], most: int) -> None:
        """Note when what is named is too many beside what stays without being named."""
        if not self.prune and len(named | there) > most:
            others = len(there - named)
            self.note(
                place,
                f"are {len(named)} beside {others} others in the directory, and at most "
                f"{most} may be",
            )


def changed(row: object, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that are not as they are wanted."""
    return {key: value for key, value in wanted.items() if getattr(row, key) != value}


def differences(row: object, changes: Mapping[str, Any]) -> str:
    """The changes in words, with what was before."""
    return ", ".join(
        f"{_WORDS.get(key, key)}: {_told(getattr(row, key))} -> {_told(value)}"
        for key, value in changes.items()
    )


def joined(*told: str) -> str:
    """What is told, one after the other, without what says nothing."""
    return ", ".join(filter(None, told))


def stated(values: Mapping[str, Any]) -> str:
    """Values in words, but for those that are not set."""
    return ", ".join(
        f"{_WORDS.get(key, key)}: {_told(value)}"
        for key, value in values.items()
        if value is not None
    )


def _told(value: object) -> str:
    told = "unset"
    match value:
        case None:
            pass
        case bool():
            told = "yes" if value else "no"
        case int() | float():
            told = f"{value:.15g}"
        case datetime():
            told = value.isoformat()
        case Mapping():
            told = " ".join(f"{key}={shown(text)}" for key, text in value.items()) or told
        case tuple():
            told = " ".join(value) or told
        case _:
            told = shown(str(value))
    return told


def policy_steps(
    drafting: Drafting, owner: PolicyPlace, wanted: tuple[DeclaredPolicy, ...], place: Place
) -> Iterator[Ordered]:
    """What makes the policies of a user or identity those that are wanted."""
    there = drafting.present.policies_of(owner)
    names = {policy.name for policy in wanted}
    drafting.note_crowd(place / "policies", names, there.keys(), MAX_POLICIES)
    for policy in wanted:
        row = there.get(policy.name)
        if row is not None and row.document == policy.document:
            continue
        version = drafting.present.next_version(owner, policy.name)
        write = PolicyWrite(
            place=owner,
            name=policy.name,
            document=policy.document,
            version=version,
            before=row,
        )
        what = f"policy {policy.name} of {owner.noted_as}"
        how = f"version {version}" if version > 1 else ""
        yield Order.POLICY, Step("~" if row else "+", what, how, write_policies, write)
    for name in sorted(there.keys() - names) if drafting.prune else ():
        what, how = f"policy {name} of {owner.noted_as}", f"version {there[name].version}"
        yield (
            Order.POLICY_AWAY,
            Step("-", what, how, remove_policies, (owner, there[name])),
        )
