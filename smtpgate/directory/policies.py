"""Policies of users and identities in the directory, with all their versions.

The caller who replaces a policy names the version that it read: if there is another version by
now, nothing is replaced and the caller gets a ConflictError. Old versions stay in the history.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Table, exists, func, insert, select, update

from smtpgate.core.naming import user_key
from smtpgate.core.policy import (
    PolicyError,
    PolicyKind,
    attachment_problems,
    is_policy_name,
    lint_policy,
    parse_policy,
    unknown_actions,
    user_attachment_problems,
)
from smtpgate.directory.change import (
    AuditSubject,
    Change,
    ConflictError,
    Note,
    NotFoundError,
    RefusedChangeError,
)
from smtpgate.directory.rows import columns_of, delete_by_key, parameters, selects, selects_each
from smtpgate.directory.schema import identities, policies, policy_versions, users
from smtpgate.sql.asynchronous import AsyncConnection

# The policy of a new user, unless the caller wants none.
MAY_SEND: Final = """\
{
  "Version": "2012-10-17",
  "Statement": [
    {"Sid": "MaySend", "Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}
  ]
}
"""

_KEY_COLUMNS: Final = ("kind", "account_id", "region", "subject", "name")


@dataclass(frozen=True, slots=True)
class PolicyOwner:
    """A user or an identity, as the owner of policies."""

    kind: PolicyKind
    account_id: str
    region: str
    subject: str
    shown: str
    identity_arn: str = ""

    @classmethod
    def of_user(cls, account_id: str, name: str) -> "PolicyOwner":
        """The policies of a user."""
        return cls("user", account_id, "", user_key(name), name)

    @classmethod
    def of_identity(cls, account_id: str, region: str, name: str, arn: str) -> "PolicyOwner":
        """The policies of an identity."""
        return cls("identity", account_id, region, name, name, arn)

    @property
    def audit_subject(self) -> AuditSubject:
        """The subject of their audit entries."""
        return AuditSubject(self.kind, self.account_id, self.shown)

    def rows(self, table: Table) -> ColumnElement[bool]:
        """The rows of a table that belong to this owner."""
        return selects(table, self.values())

    def values(self) -> dict[str, str]:
        """The values of the key columns."""
        return {
            "kind": self.kind,
            "account_id": self.account_id,
            "region": self.region,
            "subject": self.subject,
        }


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A version of a policy; the one in which it was deleted has no ``document``."""

    name: str
    document: str | None
    version: int
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWrite:
    """The document of a new version of a policy, which replaces the one ``before``."""

    owner: PolicyOwner
    name: str
    document: str
    version: int
    before: PolicyRow | None


async def policies_of(connection: AsyncConnection, owner: PolicyOwner) -> list[PolicyRow]:
    """The current policies, by name."""
    rows = await connection.execute(
        select(*columns_of(policies, PolicyRow))
        .where(owner.rows(policies))
        .order_by(policies.c.name)
    )
    return [PolicyRow(**row._mapping) for row in rows]


async def policy_history(
    connection: AsyncConnection, owner: PolicyOwner, name: str
) -> list[PolicyRow]:
    """Every version of a policy, the newest first. Raises NotFoundError."""
    found: list[PolicyRow] = []
    if is_policy_name(name):
        rows = await connection.execute(
            select(*columns_of(policy_versions, PolicyRow))
            .where(owner.rows(policy_versions), policy_versions.c.name == name)
            .order_by(policy_versions.c.version.desc())
        )
        found = [PolicyRow(**row._mapping) for row in rows]
    if not found:
        raise NotFoundError(f"{owner.audit_subject} never had a policy `{name}'")
    return found


async def put_policy(
    change: Change,
    owner: PolicyOwner,
    name: str,
    document: str,
    *,
    expected_version: int | None = None,
    action: str = "put-policy",
) -> PolicyRow:
    """Attach a policy, or replace the version that the caller has seen.

    ``expected_version`` is ``None`` for a new policy. Raises NotFoundError for the owner,
    ConflictError when another version is there, RefusedChangeError with every problem of the
    document.
    """
    await _must_have_owner(change, owner)
    there = await policies_of(change.connection, owner)
    before = next((row for row in there if row.name == name), None)
    _must_be_as_seen(owner, name, before, expected_version)
    others = [row.document or "" for row in there if row.name != name]
    _must_be_good(owner, name, document, others)
    if before is not None and before.document == document:
        return before
    version = await _next_version(change, owner, name)
    write = PolicyWrite(
        owner=owner, name=name, document=document, version=version, before=before
    )
    (row,) = await write_policies(change, [write], action=action)
    return row


async def write_policies(
    change: Change, writes: Sequence[PolicyWrite], *, action: str = "put-policy"
) -> list[PolicyRow]:
    """Attach and replace policies that are known to be valid.

    The policies that are there, and their versions, were read in this transaction.
    """
    rows = [
        PolicyRow(write.name, write.document, write.version, change.now, change.actor.name)
        for write in writes
    ]
    values = [
        write.owner.values() | asdict(row) for write, row in zip(writes, rows, strict=True)
    ]
    there = [write.before is not None for write in writes]
    if not all(there):
        new = [one for one, is_there in zip(values, there, strict=True) if not is_there]
        await change.connection.execute(insert(policies), new)
    if any(there):
        old = [
            parameters(one, _KEY_COLUMNS) | one
            for one, is_there in zip(values, there, strict=True)
            if is_there
        ]
        await change.connection.execute(
            update(policies).where(selects_each(policies, _KEY_COLUMNS)), old
        )
    await change.connection.execute(insert(policy_versions), values)
    await change.note_all(
        [
            Note(
                action=action,
                subject=write.owner.audit_subject,
                before=_facts(write.before) if write.before else None,
                after=_facts(row),
            )
            for write, row in zip(writes, rows, strict=True)
        ]
    )
    return rows


async def delete_policy(
    change: Change, owner: PolicyOwner, name: str, *, expected_version: int | None = None
) -> None:
    """Delete a policy; its history stays. Raises NotFoundError or ConflictError."""
    there = await policies_of(change.connection, owner)
    before = next((row for row in there if row.name == name), None)
    if before is None:
        raise NotFoundError(f"{owner.audit_subject} has no policy `{name}'")
    if expected_version is not None:
        _must_be_as_seen(owner, name, before, expected_version)
    await remove_policies(change, [(owner, before)])


async def remove_policies(
    change: Change, found: Sequence[tuple[PolicyOwner, PolicyRow]]
) -> None:
    """Delete policies that are known to exist; their history stays."""
    if not found:
        return
    gone = [
        owner.values()
        | asdict(PolicyRow(row.name, None, row.version + 1, change.now, change.actor.name))
        for owner, row in found
    ]
    keys = [{column: row[column] for column in _KEY_COLUMNS} for row in gone]
    await delete_by_key(change, policies, keys)
    await change.connection.execute(insert(policy_versions), gone)
    await change.note_all(
        [
            Note(action="delete-policy", subject=owner.audit_subject, before=_facts(row))
            for owner, row in found
        ]
    )


async def roll_back_policy(
    change: Change, owner: PolicyOwner, name: str, version: int
) -> PolicyRow:
    """Make an earlier version the current one again, as a new version.

    Raises NotFoundError, or RefusedChangeError when the document is no longer acceptable.
    """
    history = await policy_history(change.connection, owner, name)
    wanted = next((row for row in history if row.version == version), None)
    if wanted is None or wanted.document is None:
        has = ", ".join(str(row.version) for row in history if row.document is not None)
        raise NotFoundError(
            f"policy `{name}' has no document of version {version}, but of {has}"
        )
    current = history[0]
    seen = current.version if current.document is not None else None
    return await put_policy(
        change, owner, name, wanted.document, expected_version=seen, action="roll-back-policy"
    )


async def drop_policies(change: Change, owner: PolicyOwner) -> None:
    """Delete all policies of an owner that is deleted."""
    rows = await policies_of(change.connection, owner)
    await remove_policies(change, [(owner, row) for row in rows])


async def _must_have_owner(change: Change, owner: PolicyOwner) -> None:
    """Raise NotFoundError without the owner: a later owner of the name must get no policy."""
    columns = users.c if owner.kind == "user" else identities.c
    is_owner = columns.account_id == owner.account_id
    if owner.kind == "user":
        is_owner &= columns.key == owner.subject
    else:
        is_owner &= (columns.region == owner.region) & (columns.name == owner.subject)
    if not (await change.connection.execute(select(exists().where(is_owner)))).scalar():
        raise NotFoundError(f"there is no {owner.audit_subject}")


def _must_be_as_seen(
    owner: PolicyOwner, name: str, before: PolicyRow | None, expected: int | None
) -> None:
    if before is None and expected is not None:
        raise ConflictError(
            f"policy `{name}' of {owner.audit_subject} was deleted meanwhile; look again"
        )
    if before is not None and before.version != expected:
        raise ConflictError(
            f"policy `{name}' of {owner.audit_subject} is at version {before.version}, "
            f"changed by {before.changed_by} at {before.changed_at:%Y-%m-%d %H:%M:%SZ}; "
            f"look at it, and say that version to replace it"
        )


def _must_be_good(
    owner: PolicyOwner, name: str, document: str, siblings: Sequence[str]
) -> None:
    if not is_policy_name(name):
        raise RefusedChangeError(
            f"`{name}' is no policy name: it has 1 to 64 letters, digits, - and _"
        )
    problems = check_policy(owner, name, document, siblings=siblings).problems
    problems = problems or lint_errors(owner, name, document)
    if problems:
        raise RefusedChangeError("\n".join(f"policy `{name}': {text}" for text in problems))


@dataclass(frozen=True, slots=True)
class CheckedPolicy:
    """The problems of a document as a policy, and actions in it that do not exist."""

    problems: Sequence[str] = ()
    unknown_actions: Sequence[str] = ()


def check_policy(
    owner: PolicyOwner, name: str, document: str, *, siblings: Sequence[str]
) -> CheckedPolicy:
    """Check a document as a policy of that owner.

    ``siblings`` are the documents of its other policies.
    """
    try:
        octets = document.encode()
    except UnicodeEncodeError:
        return CheckedPolicy(["document: is no text that can be written in UTF-8"])
    try:
        policy = parse_policy(octets, kind=owner.kind, name=name)
    except PolicyError as error:
        return CheckedPolicy([str(problem) for problem in error.problems])
    if owner.kind == "user":
        found = user_attachment_problems(document, siblings=siblings)
    else:
        found = attachment_problems(
            policy,
            identity_arn=owner.identity_arn,
            source_octets=len(octets),
            siblings=len(siblings),
        )
    return CheckedPolicy(
        [str(problem) for problem in found],
        [
            f"{finding.path}: {finding.message}; did you mean {finding.proposal}?"
            for statement in policy.statements
            for finding in unknown_actions(statement)
        ],
    )


def lint_errors(owner: PolicyOwner, name: str, document: str) -> list[str]:
    """The errors of lint, which prevent that an attachable policy is saved."""
    policy = parse_policy(document.encode(), kind=owner.kind, name=name)
    return [
        f"{finding.path}: {finding.message}"
        for finding in lint_policy(policy, source=document)
        if finding.severity == "error"
    ]


async def _next_version(change: Change, owner: PolicyOwner, name: str) -> int:
    found = await change.connection.execute(
        select(func.max(policy_versions.c.version)).where(
            owner.rows(policy_versions), policy_versions.c.name == name
        )
    )
    return (found.scalar() or 0) + 1


def _facts(row: PolicyRow) -> dict[str, object]:
    return {"policy": row.name, "version": row.version, "document": row.document}
