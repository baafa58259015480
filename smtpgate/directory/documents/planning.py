"""The comparison, the order of steps and their texts, shared by all parts of a plan."""

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
from smtpgate.directory.documents.fields import fields_of_policy, plain, policy_key
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.documents.plan import Columns, Drift, Sign, Step
from smtpgate.directory.policies import (
    PolicyOwner,
    PolicyWrite,
    lint_errors,
    remove_policies,
    write_policies,
)
from smtpgate.directory.sealing import MasterKeys

# The names in documents of columns with other names.
_WORDS: Final = {
    "organization_id": "organization",
    "is_active": "active",
    "expires_at": "expires",
    "is_verified": "verified",
    "record": "public key",
    "is_sending": "sending",
    "is_enabled": "enabled",
    "is_forwarding": "forwarding",
    "suppressed_reasons": "suppress",
    "suppresses_delegates": "suppress for delegates",
}


class Order(IntEnum):
    """The order of steps: owners before their objects, deletions before additions."""

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
    TOPIC = 11
    SET = 12
    PART_AWAY = 13
    PART = 14
    IDENTITY_AWAY = 15
    SET_AWAY = 16
    TOPIC_AWAY = 17
    USER_AWAY = 18
    ACCOUNT_AWAY = 19


Ordered: TypeAlias = tuple[Order, Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """A draft in progress.

    The fields that were applied ``before`` decide which fields documents may change: with
    ``force``, all. ``problems`` make the plan impossible, ``drift`` are differences that stay,
    ``away`` are objects that they name and that are not made, ``removed`` those to be deleted.
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
        """Note when new objects would be too many beside those that are there."""
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
        """Note a difference between directory and documents that stays."""
        self.drift.append(Drift(what, how, self.columns(key, wanted)))

    def makes(self, key: ObjectKey, wanted: Fields, what: str, *owners: ObjectKey) -> bool:
        """True if to make an object that documents name and the directory has not.

        An object that documents named before was deleted by a command, and stays deleted.
        Objects of it are not reported, unless documents have changed them.
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

        Differences without a change of the documents are noted as drift.
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
        """True if to delete an object that no document names.

        Documents delete objects that they named before; objects that commands made stay.
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
    """The changes in words, with the values before."""
    return ", ".join(
        f"{_WORDS.get(key, key)}: {_in_words(getattr(row, key))} -> {_in_words(value)}"
        for key, value in changes.items()
    )


def joined(*words: str) -> str:
    """The words, separated by commas, without empty ones."""
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
    """The steps that make the policies of a user or identity the desired ones."""
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
