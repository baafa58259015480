"""What all parts of a draft share: what is compared, the order of steps, and their words."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, TypeAlias

from smtpgate.core.policy.attachment import MAX_POLICIES
from smtpgate.core.policy.problem import shown
from smtpgate.directory.declared.content import Declared, DeclaredPolicy, Place
from smtpgate.directory.declared.held import held
from smtpgate.directory.declared.plan import Columns, Drift, Sign, Step
from smtpgate.directory.declared.present import Present
from smtpgate.directory.declared.said import (
    ObjectKey,
    Said,
    plain,
    policy_key,
    said_of_policy,
)
from smtpgate.directory.policies import (
    PolicyPlace,
    PolicyWrite,
    remove_policies,
    write_policies,
)
from smtpgate.directory.sealing import MasterKeys

# How documents call what a column is not called after.
_WORDS: Final = {
    "organization_id": "organization",
    "is_active": "active",
    "expires_at": "expires",
    "is_verified": "verified",
    "record": "public key",
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
    """A draft in progress.

    What documents said ``before`` decides what is theirs to change: with ``force``, everything.
    ``problems`` is what makes the draft impossible, ``drift`` what stays otherwise than the
    documents have it, ``away`` what they name and is not made, ``removed`` what goes.
    """

    declared: Declared
    present: Present
    before: Mapping[ObjectKey, Said]
    master_keys: MasterKeys = field(repr=False)
    region: str
    partition: str
    prune: bool
    force: bool
    now: datetime
    problems: list[str] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    away: set[ObjectKey] = field(default_factory=set)
    removed: set[ObjectKey] = field(default_factory=set)

    def note(self, place: Place, problem: str) -> None:
        """Note why it cannot be done."""
        self.problems.append(f"{place}: {problem}")

    def note_crowd(
        self, place: Place, named: Set[str], after: Set[str], made: Set[str], most: int
    ) -> None:
        """Note when what is made would be too many beside what is there."""
        if made and len(after | made) > most:
            others = len((after | made) - named)
            self.note(
                place,
                f"are {len(named)} beside {others} others in the directory, and at most "
                f"{most} may be",
            )

    def columns(self, key: ObjectKey, said: Said | None = None) -> Columns:
        """An object as documents had it, as they have it, and as the directory has it."""
        there = held(self.present, key)
        return Columns(
            self.before.get(key),
            None if said is None else plain(said),
            None if there is None else plain(there),
        )

    def note_drift(self, key: ObjectKey, what: str, how: str, said: Said | None = None) -> None:
        """Note what stays otherwise than the documents have it."""
        self.drift.append(Drift(what, how, self.columns(key, said)))

    def makes(self, key: ObjectKey, said: Said, what: str, *owners: ObjectKey) -> bool:
        """Whether to make an object that documents name and the directory has not.

        One that documents named before was deleted by somebody, and stays so. What belongs to
        it is not spoken of, unless documents have changed it.
        """
        is_known = key in self.before
        is_changed = is_known and self.before[key] != plain(said)
        if not self.away.isdisjoint(owners):
            self.away.add(key)
            if is_changed or not is_known:
                self.note_drift(key, what, "not made: its owner was deleted", said)
            return False
        if self.force or not is_known:
            return True
        self.away.add(key)
        how = "deleted in the directory"
        if is_changed:
            how += ", though the documents changed it"
        self.note_drift(key, what, how, said)
        return False

    def changes(self, key: ObjectKey, said: Said, what: str) -> dict[str, Any]:
        """The fields of an object that documents changed and the directory has otherwise.

        What differs without a change of the documents is noted as drift.
        """
        there = held(self.present, key) or {}
        before = self.before.get(key)
        found, kept = dict[str, Any](), dict[str, Any]()
        for name, value in said.items():
            if name in there and plain(there[name]) == plain(value):
                continue
            is_theirs = self.force or before is None or _differs(before, name, value)
            (found if is_theirs else kept)[name] = value
        if kept:
            self.note_drift(key, what, _as_kept(kept, there), said)
        return found

    def prunes(self, key: ObjectKey, what: str) -> bool:
        """Whether to delete an object that no document names.

        Documents delete what they named before; what somebody else made stays.
        """
        if not self.prune:
            return False
        if self.force or key in self.before:
            self.removed.add(key)
            return True
        self.note_drift(key, what, "in no document")
        return False


def _differs(before: Said, name: str, value: object) -> bool:
    return name not in before or before[name] != plain(value)


def _as_kept(kept: Mapping[str, Any], there: Said) -> str:
    if "document" in kept:
        return "another document than the documents have"
    return ", ".join(
        f"{_WORDS.get(name, name)}: {_told(value)} in the documents, "
        f"{_told(there.get(name))} in the directory"
        for name, value in kept.items()
    )


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
    drafting: Drafting,
    owner: PolicyPlace,
    owner_key: ObjectKey,
    wanted: tuple[DeclaredPolicy, ...],
    place: Place,
) -> Iterator[Ordered]:
    """What makes the policies of a user or identity those that are wanted."""
    there = drafting.present.policies_of(owner)
    names, made = {policy.name for policy in wanted}, set[str]()
    for policy in wanted:
        key, said = policy_key(owner, policy.name), said_of_policy(policy)
        what = f"policy {policy.name} of {owner.noted_as}"
        row = there.get(policy.name)
        if row is None:
            if not drafting.makes(key, said, what, owner_key):
                continue
            made.add(policy.name)
        elif not drafting.changes(key, said, what):
            continue
        version = drafting.present.next_version(owner, policy.name)
        write = PolicyWrite(
            place=owner,
            name=policy.name,
            document=policy.document,
            version=version,
            before=row,
        )
        how = f"version {version}" if version > 1 else ""
        columns = drafting.columns(key, said)
        sign: Sign = "~" if row else "+"
        yield Order.POLICY, Step(sign, what, how, write_policies, write, columns)
    gone = set[str]()
    for name in sorted(there.keys() - names):
        key, what = policy_key(owner, name), f"policy {name} of {owner.noted_as}"
        if drafting.prunes(key, what):
            gone.add(name)
            how, item = f"version {there[name].version}", (owner, there[name])
            columns = drafting.columns(key)
            yield Order.POLICY_AWAY, Step("-", what, how, remove_policies, item, columns)
    drafting.note_crowd(place / "policies", names, there.keys() - gone, made, MAX_POLICIES)
