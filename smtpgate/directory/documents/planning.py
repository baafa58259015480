"""What all parts of a draft share: what is compared, the order of steps, and their words."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, TypeAlias

from smtpgate.core.policy.attachment import MAX_POLICIES
from smtpgate.core.policy.problem import shown
from smtpgate.directory.documents.current import Current
from smtpgate.directory.documents.current_fields import current_fields
from smtpgate.directory.documents.desired import Desired, DesiredPolicy, SourceLocation
from smtpgate.directory.documents.fields import (
    Fields,
    ObjectKey,
    fields_of_policy,
    plain,
    policy_key,
)
from smtpgate.directory.documents.plan import Columns, Drift, Sign, Step
from smtpgate.directory.policies import (
    PolicyOwner,
    PolicyWrite,
    lint_errors,
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
class Planning:
    """A draft in progress.

    What documents said ``before`` decides what is theirs to change: with ``force``, everything.
    ``problems`` is what makes the draft impossible, ``drift`` what stays otherwise than the
    documents have it, ``away`` what they name and is not made, ``removed`` what goes.
    """

    desired: Desired
    current: Current
    before: Mapping[ObjectKey, Fields]
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

    def note(self, location: SourceLocation, problem: str) -> None:
        """Note why it cannot be done."""
        self.problems.append(f"{location}: {problem}")

    def note_crowd(
        self,
        location: SourceLocation,
        named: Set[str],
        after: Set[str],
        made: Set[str],
        most: int,
    ) -> None:
        """Note when what is made would be too many beside what is there."""
        if made and len(after | made) > most:
            others = len((after | made) - named)
            self.note(
                location,
                f"are {len(named)} beside {others} others in the directory, and at most "
                f"{most} may be",
            )

    def columns(self, key: ObjectKey, wanted: Fields | None = None) -> Columns:
        """An object as documents had it, as they have it, and as the directory has it."""
        there = current_fields(self.current, key)
        return Columns(
            self.before.get(key),
            None if wanted is None else plain(wanted),
            None if there is None else plain(there),
        )

    def note_drift(
        self, key: ObjectKey, what: str, how: str, wanted: Fields | None = None
    ) -> None:
        """Note what stays otherwise than the documents have it."""
        self.drift.append(Drift(what, how, self.columns(key, wanted)))

    def makes(self, key: ObjectKey, wanted: Fields, what: str, *owners: ObjectKey) -> bool:
        """Whether to make an object that documents name and the directory has not.

        One that documents named before was deleted by somebody, and stays so. What belongs to
        it is not spoken of, unless documents have changed it.
        """
        is_known = key in self.before
        is_changed = is_known and self.before[key] != plain(wanted)
        if not self.away.isdisjoint(owners):
            self.away.add(key)
            if is_changed or not is_known:
                self.note_drift(key, what, "not made: its owner was deleted", wanted)
            return False
        if self.force or not is_known:
            return True
        self.away.add(key)
        how = "deleted in the directory"
        if is_changed:
            how += ", though the documents changed it"
        self.note_drift(key, what, how, wanted)
        return False

    def changes(self, key: ObjectKey, wanted: Fields, what: str) -> dict[str, Any]:
        """The fields of an object that documents changed and the directory has otherwise.

        What differs without a change of the documents is noted as drift.
        """
        there = current_fields(self.current, key) or {}
        before = self.before.get(key)
        found, kept = dict[str, Any](), dict[str, Any]()
        for name, value in wanted.items():
            if name in there and plain(there[name]) == plain(value):
                continue
            is_theirs = self.force or before is None or _differs(before, name, value)
            (found if is_theirs else kept)[name] = value
        if kept:
            self.note_drift(key, what, _as_kept(kept, there), wanted)
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


def _differs(before: Fields, name: str, value: object) -> bool:
    return name not in before or before[name] != plain(value)


def _as_kept(kept: Mapping[str, Any], there: Fields) -> str:
    if "document" in kept:
        return "another document than the documents have"
    return ", ".join(
        f"{_WORDS.get(name, name)}: {_in_words(value)} in the documents, "
        f"{_in_words(there.get(name))} in the directory"
        for name, value in kept.items()
    )


def differences(row: object, changes: Mapping[str, Any]) -> str:
    """The changes in words, with what was before."""
    return ", ".join(
        f"{_WORDS.get(key, key)}: {_in_words(getattr(row, key))} -> {_in_words(value)}"
        for key, value in changes.items()
    )


def joined(*words: str) -> str:
    """What is told, one after the other, without what says nothing."""
    return ", ".join(filter(None, words))


def stated(values: Mapping[str, Any]) -> str:
    """Values in words, but for those that are not set."""
    return ", ".join(
        f"{_WORDS.get(key, key)}: {_in_words(value)}"
        for key, value in values.items()
        if value is not None
    )


def _in_words(value: object) -> str:
    words = "unset"
    match value:
        case None:
            pass
        case bool():
            words = "yes" if value else "no"
        case int() | float():
            words = f"{value:.15g}"
        case datetime():
            words = value.isoformat()
        case Mapping():
            words = " ".join(f"{key}={shown(text)}" for key, text in value.items()) or words
        case tuple():
            words = " ".join(value) or words
        case _:
            words = shown(str(value))
    return words


def policy_steps(
    planning: Planning,
    owner: PolicyOwner,
    owner_key: ObjectKey,
    desired: tuple[DesiredPolicy, ...],
    location: SourceLocation,
) -> Iterator[Ordered]:
    """What makes the policies of a user or identity the desired ones."""
    there = planning.current.policies_of(owner)
    names, made = {policy.name for policy in desired}, set[str]()
    for policy in desired:
        key, wanted = policy_key(owner, policy.name), fields_of_policy(policy)
        what = f"policy {policy.name} of {owner.audit_subject}"
        row = there.get(policy.name)
        if row is None:
            if not planning.makes(key, wanted, what, owner_key):
                continue
            made.add(policy.name)
        elif not planning.changes(key, wanted, what):
            continue
        for problem in lint_errors(owner, policy.name, policy.document):
            planning.note(location / "policies" / policy.name, problem)
        version = planning.current.next_version(owner, policy.name)
        write = PolicyWrite(
            owner=owner,
            name=policy.name,
            document=policy.document,
            version=version,
            before=row,
        )
        how = f"version {version}" if version > 1 else ""
        columns = planning.columns(key, wanted)
        sign: Sign = "~" if row else "+"
        yield Order.POLICY, Step(sign, what, how, write_policies, write, columns)
    gone = set[str]()
    for name in sorted(there.keys() - names):
        key, what = policy_key(owner, name), f"policy {name} of {owner.audit_subject}"
        if planning.prunes(key, what):
            gone.add(name)
            how, item = f"version {there[name].version}", (owner, there[name])
            columns = planning.columns(key)
            yield Order.POLICY_AWAY, Step("-", what, how, remove_policies, item, columns)
    planning.note_crowd(location / "policies", names, there.keys() - gone, made, MAX_POLICIES)
