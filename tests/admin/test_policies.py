"""Policies as the use cases save them: none with an error, and no change undone unseen."""

import pytest

from smtpgate.admin import identities, policies, users
from smtpgate.admin.errors import (
    ConflictError,
    NotAuthorizedError,
    NotFoundError,
    PolicyFindingsError,
)
from smtpgate.admin.policies import PolicyOwnerRef
from smtpgate.admin.refs import IdentityRef, UserRef
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import allow, deny, session_of, user
from tests.support.rows import rows
from tests.support.tenants import add_account, add_identity, add_user, raw
from tests.support.world import OWNER, grant

DOMAIN = IdentityRef(OWNER, "ses-example.com")
MAILER = UserRef(OWNER, "Mailer")
MAY_SEND = '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
# A condition on a key with several values, without a set operator: no message can meet it.
NEVER = {"StringLike": {"ses:Recipients": "*@example.net"}}
OF_USER = MAY_SEND.replace("}}", ', "Condition": {"StringLike": {"ses:Recipients": "a"}}}}')


@pytest.fixture(autouse=True)
async def furnished(store: DirectoryStore) -> None:
    """An account with an identity and a user."""
    await add_account(store, OWNER)
    await add_identity(store, DOMAIN.name, OWNER)
    await add_user(store, MAILER.name, OWNER, path="/team-a/")


@rows(
    "ref, document, code",
    [
        (DOMAIN, grant(Condition=NEVER), "set-operator-missing"),
        (DOMAIN, grant(Resource="*"), "not-attachable"),
        (DOMAIN, MAY_SEND, "invalid-policy"),
        (DOMAIN, "{", "invalid-policy"),
        (DOMAIN, "\ud800", "invalid-policy"),
        (MAILER, OF_USER, "set-operator-missing"),
        (MAILER, grant(), "invalid-policy"),
    ],
)
async def test_a_policy_with_an_error_is_not_saved(
    store: DirectoryStore, ref: PolicyOwnerRef, document: str, code: str
) -> None:
    session = session_of(store)
    before = await policies.attached(session, ref)
    with pytest.raises(PolicyFindingsError) as refused:
        await policies.put(session, ref, "new", document)
    assert code in {finding.code for finding in refused.value.findings}
    assert str(refused.value).startswith("policy `new': ")
    assert await policies.attached(session, ref) == before


async def test_a_policy_with_a_warning_is_saved_and_the_warning_returned(
    store: DirectoryStore,
) -> None:
    saved = await policies.put(session_of(store), DOMAIN, "open", grant(Principal="*"))
    assert saved.policy.version == 1
    assert [finding.code for finding in saved.findings] == ["open-to-anyone"]


async def test_an_earlier_version_with_an_error_does_not_come_back(
    store: DirectoryStore,
) -> None:
    session = session_of(store)
    await policies.put(session, DOMAIN, "p", grant())
    statement = "UPDATE policy_versions SET document = :document WHERE name = 'p'"
    await raw(store, statement, document=grant(Condition=NEVER))
    await policies.put(session, DOMAIN, "p", grant(Sid="Other"), version=1)
    with pytest.raises(PolicyFindingsError):
        await policies.roll_back(session, DOMAIN, "p", 1)
    assert (await policies.get(session, DOMAIN, "p")).version == 2
    assert (await policies.roll_back(session, DOMAIN, "p", 2)).policy.version == 2
    with pytest.raises(NotFoundError, match="has no document of version 3, but of 2, 1"):
        await policies.roll_back(session, DOMAIN, "p", 3)


async def test_a_policy_is_replaced_by_a_caller_that_has_seen_its_version(
    store: DirectoryStore,
) -> None:
    session = session_of(store)
    await policies.put(session, DOMAIN, "p", grant())
    for version in (None, 2):
        with pytest.raises(ConflictError, match="is at version 1"):
            await policies.put(session, DOMAIN, "p", grant(Sid="Other"), version=version)
    saved = await policies.put(session, DOMAIN, "p", grant(Sid="Other"), version=1)
    assert saved.policy.version == 2
    assert (await policies.get(session, DOMAIN, "p", 1)).document == grant()


async def test_a_right_may_be_for_one_user_with_its_path(store: DirectoryStore) -> None:
    arn = f"arn:aws:iam::{OWNER}:user/team-a/*"
    put = allow("iam:PutUserPolicy", resource=arn)
    await policies.put(session_of(store, user(put)), MAILER, "p", MAY_SEND)
    refused = user(allow("iam:*"), deny("iam:PutUserPolicy", resource=arn))
    with pytest.raises(NotAuthorizedError):
        await policies.put(session_of(store, refused), MAILER, "p", MAY_SEND, version=1)


@pytest.mark.parametrize("ref", [DOMAIN, MAILER])
async def test_the_history_outlives_the_owner_and_says_who_deleted_it(
    store: DirectoryStore, ref: PolicyOwnerRef
) -> None:
    session = session_of(store)
    document = grant() if ref == DOMAIN else MAY_SEND
    await policies.put(session, ref, "p", document)
    if isinstance(ref, UserRef):
        await users.delete(session, ref)
    else:
        await identities.delete(session, ref)
    versions = await policies.history(session, ref, "p")
    assert [(one.version, one.document) for one in versions] == [(2, None), (1, document)]
    assert {one.changed_by for one in versions} == {"tester"}
    with pytest.raises(NotFoundError):
        await policies.attached(session, ref)
