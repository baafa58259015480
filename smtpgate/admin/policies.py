"""Policies of users and identities: attached, replaced, taken back; every version is kept.

A policy with an error among its findings is not saved. The caller that replaces one says which
version it has seen, so that nobody undoes another's change unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from smtpgate.admin.errors import NotFoundError, PolicyFindingsError
from smtpgate.admin.refs import IdentityRef, UserRef
from smtpgate.admin.session import Session
from smtpgate.admin.users import must_be_allowed_for_user
from smtpgate.core.policy import Finding, check_document
from smtpgate.directory import policies as rows
from smtpgate.directory.policies import PolicyOwner, PolicyRow
from smtpgate.directory.policy_owners import (
    FindPolicyOwner,
    policies_of_identity,
    policies_of_user,
)

PolicyVersion: TypeAlias = PolicyRow
PolicyOwnerRef: TypeAlias = UserRef | IdentityRef

_OF_USERS: Final = {
    "Get": "GetUserPolicies",
    "Create": "PutUserPolicy",
    "Update": "PutUserPolicy",
    "Delete": "DeleteUserPolicy",
}


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    """A policy as it was saved, and what is unwise about it."""

    policy: PolicyVersion
    findings: Sequence[Finding]


async def put(
    session: Session,
    ref: PolicyOwnerRef,
    name: str,
    document: str,
    *,
    version: int | None = None,
) -> SavedPolicy:
    """Attach a policy, or replace the version that the caller has seen.

    Raises PolicyFindingsError when a finding is an error, ConflictError when the policy is at
    another version.
    """
    await _must_be_allowed(session, ref, "Create" if version is None else "Update")
    async with session.changing() as change:
        owner = await _finder(session, ref)(change.connection)
        findings = _must_be_good(owner, name, document)
        row = await rows.put_policy(change, owner, name, document, expected_version=version)
    return SavedPolicy(row, findings)


async def attached(session: Session, ref: PolicyOwnerRef) -> Sequence[PolicyVersion]:
    """The policies that a user or an identity has, by name."""
    await _must_be_allowed(session, ref, "Get")
    async with session.store.reading() as connection:
        return await rows.policies_of(connection, await _finder(session, ref)(connection))


async def get(
    session: Session, ref: PolicyOwnerRef, name: str, version: int | None = None
) -> PolicyVersion:
    """A policy as it is now, or an earlier version of it. Raises NotFoundError."""
    if version is None:
        found = [row for row in await attached(session, ref) if row.name == name]
    else:
        versions = await history(session, ref, name)
        found = [row for row in versions if row.version == version and row.document]
    if not found:
        kind = "user" if isinstance(ref, UserRef) else "identity"
        at = "" if version is None else f" with a version {version}"
        raise NotFoundError(f"{kind} {ref} has no policy `{name}'{at}")
    return found[0]


async def history(session: Session, ref: PolicyOwnerRef, name: str) -> Sequence[PolicyVersion]:
    """Every version of a policy, the newest first; of one that was deleted too."""
    await _must_be_allowed(session, ref, "Get")
    async with session.store.reading() as connection:
        return await rows.policy_history(connection, _former_owner(session, ref), name)


async def delete(
    session: Session, ref: PolicyOwnerRef, name: str, *, version: int | None = None
) -> None:
    """Take a policy away; its history stays. Raises NotFoundError or ConflictError."""
    await _must_be_allowed(session, ref, "Delete")
    async with session.changing() as change:
        owner = await _finder(session, ref)(change.connection)
        await rows.delete_policy(change, owner, name, expected_version=version)


async def roll_back(
    session: Session, ref: PolicyOwnerRef, name: str, version: int
) -> SavedPolicy:
    """Make an earlier version the current one again, as a new version.

    Raises NotFoundError, or PolicyFindingsError when that version would be refused today.
    """
    for verb in ("Get", "Create", "Update"):
        await _must_be_allowed(session, ref, verb)
    async with session.changing() as change:
        owner = await _finder(session, ref)(change.connection)
        versions = await rows.policy_history(change.connection, owner, name)
        findings: Sequence[Finding] = ()
        for earlier in versions:
            if earlier.version == version and earlier.document is not None:
                findings = _must_be_good(owner, name, earlier.document)
        row = await rows.roll_back_policy(change, owner, name, version)
    return SavedPolicy(row, findings)


def _must_be_good(owner: PolicyOwner, name: str, document: str) -> Sequence[Finding]:
    """The warnings about a document. Raises PolicyFindingsError if there is an error."""
    source = document.encode("utf-8", "surrogatepass")
    findings = tuple(check_document(source, name, owner.kind, owner.identity_arn))
    if any(finding.severity == "error" for finding in findings):
        raise PolicyFindingsError(name, findings)
    return findings


async def _must_be_allowed(session: Session, ref: PolicyOwnerRef, verb: str) -> None:
    if isinstance(ref, IdentityRef):
        noun = "Policies" if verb == "Get" else "Policy"
        session.must_be_allowed(f"{verb}Identity{noun}", session.identity_arn(ref))
    else:
        operation = _OF_USERS[verb]
        try:
            _ = await must_be_allowed_for_user(session, ref, [operation])
        except NotFoundError:
            if verb != "Get":
                raise  # of a user that was deleted the history is still there


def _finder(session: Session, ref: PolicyOwnerRef) -> FindPolicyOwner:
    """A function that finds the owner of policies in a transaction."""
    if isinstance(ref, UserRef):
        return policies_of_user(ref.account_id, ref.name)
    return policies_of_identity(ref.account_id, session.region, ref.name, session.partition)


def _former_owner(session: Session, ref: PolicyOwnerRef) -> PolicyOwner:
    """The owner of policies, who may have been deleted."""
    if isinstance(ref, UserRef):
        return PolicyOwner.of_user(ref.account_id, ref.name)
    arn = session.identity_arn(ref)
    return PolicyOwner.of_identity(ref.account_id, session.region, ref.name, arn)
