"""Accounts and users as the use cases show and change them for each kind of caller."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import pytest

from smtpgate.admin import accounts, users
from smtpgate.admin.errors import ConflictError, NotAuthorizedError, NotFoundError
from smtpgate.admin.refs import UserRef
from smtpgate.core.arn import is_account_id
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import allow, deny, root, session_of, user
from tests.support.tenants import add_account, add_key, add_user
from tests.support.world import DELEGATE, OWNER

T = TypeVar("T")
MAILER = UserRef(OWNER, "mailer")
TEAM_A = f"arn:aws:iam::{OWNER}:user/team-a/*"


async def every(pages: AsyncIterator[Sequence[T]]) -> list[T]:
    return [one async for page in pages for one in page]


@pytest.fixture
async def owned(store: DirectoryStore) -> DirectoryStore:
    """A store with two accounts; the owner's has a user in a team."""
    await add_account(store, OWNER, name="Identity owner")
    await add_account(store, DELEGATE, paused_reason="unpaid")
    await add_user(store, "mailer", OWNER, path="/team-a/", tags={"team": "news"})
    return store


async def test_an_account_without_an_id_gets_a_random_one(store: DirectoryStore) -> None:
    session = session_of(store)
    made = [await accounts.create(session, None, {"name": "New"}) for _ in range(2)]
    assert all(is_account_id(one.id) and one.name == "New" for one in made)
    assert made[0].id != made[1].id


async def test_an_account_is_shown_with_what_it_has(owned: DirectoryStore) -> None:
    account, counts = await accounts.get(session_of(owned, root()), OWNER)
    assert (account.status, account.max_24h_send) == ("active", None)
    assert counts == {
        "users": 1,
        "access keys": 0,
        "identities": 0,
        "topics": 0,
        "configuration sets": 0,
    }
    with pytest.raises(ConflictError, match="still has users; delete them first"):
        await accounts.delete(session_of(owned), OWNER)


async def test_accounts_are_listed_by_status_and_behind_one(owned: DirectoryStore) -> None:
    session = session_of(owned)
    paused = await every(accounts.pages(session, status="paused"))
    behind = await every(accounts.pages(session, after=OWNER))
    assert [one.id for one in paused] == [one.id for one in behind] == [DELEGATE]
    assert [one.id for one in await every(accounts.pages(session, limit=1))] == [OWNER]


async def test_a_right_to_one_path_is_no_right_to_others(owned: DirectoryStore) -> None:
    await add_user(owned, "press", OWNER)
    caller = user(allow("iam:*", resource=TEAM_A))
    session = session_of(owned, caller)
    assert (await users.get(session, MAILER)).arn == TEAM_A.replace("*", "mailer")
    with pytest.raises(NotAuthorizedError, match=r":user/press$"):
        await users.get(session, UserRef(OWNER, "press"))


async def test_a_user_is_moved_only_to_a_path_that_the_caller_has_a_right_to(
    owned: DirectoryStore,
) -> None:
    session = session_of(owned, user(allow("iam:UpdateUser", resource=TEAM_A)))
    with pytest.raises(NotAuthorizedError, match=r":user/team-b/mailer$"):
        await users.update(session, MAILER, {"path": "/team-b/"})
    moved = await users.update(session, MAILER, {"path": "/team-a/x/"})
    assert moved.arn == f"arn:aws:iam::{OWNER}:user/team-a/x/mailer"


@pytest.mark.parametrize("spelling", ["mailer", "MAILER", "Mailer"])
async def test_a_deny_on_a_user_holds_in_every_spelling_of_its_name(
    owned: DirectoryStore, spelling: str
) -> None:
    arn = f"arn:aws:iam::{OWNER}:user/team-a/mailer"
    session = session_of(owned, user(allow("*"), deny("iam:DeleteUser", resource=arn)))
    with pytest.raises(NotAuthorizedError):
        await users.delete(session, UserRef(OWNER, spelling))


@pytest.mark.parametrize("spelling", ["mailer", "MAILER", "Mailer"])
async def test_a_deny_on_the_place_that_a_user_is_moved_to_holds_in_every_spelling(
    owned: DirectoryStore, spelling: str
) -> None:
    arn = f"arn:aws:iam::{OWNER}:user/admins/mailer"
    session = session_of(owned, user(allow("*"), deny("iam:UpdateUser", resource=arn)))
    with pytest.raises(NotAuthorizedError):
        await users.update(session, UserRef(OWNER, spelling), {"path": "/admins/"})


async def test_a_user_is_deleted_by_a_caller_with_the_right_to_what_goes_with_it(
    owned: DirectoryStore,
) -> None:
    await add_key(owned, "AKIAUSERSUSERSUSERS0", OWNER, user_name="mailer")
    for missing in ("iam:DeleteUserPolicy", "iam:DeleteAccessKey"):
        session = session_of(owned, user(allow("*"), deny(missing)))
        with pytest.raises(NotAuthorizedError, match=missing):
            await users.delete(session, UserRef(OWNER, "MAILER"))
    session = session_of(owned, user(allow("iam:DeleteUser")))
    bare = UserRef(OWNER, "bare")
    _ = await users.create(session_of(owned), bare, {}, may_send=False)
    await users.delete(session, bare)
    assert [one.name for one in await every(users.pages(session_of(owned)))] == ["mailer"]


async def test_a_user_that_may_know_it_reads_that_there_is_no_such_user(
    owned: DirectoryStore,
) -> None:
    nobody = UserRef(OWNER, "nobody")
    with pytest.raises(NotFoundError, match="there is no user 888888888888/nobody"):
        await users.get(session_of(owned, user(allow("iam:GetUser"))), nobody)
    with pytest.raises(NotAuthorizedError):
        await users.get(session_of(owned, user()), nobody)


async def test_users_of_other_accounts_are_not_listed(owned: DirectoryStore) -> None:
    await add_user(owned, "other", DELEGATE)
    for caller in (root(), user(allow("iam:ListUsers"))):
        assert [one.name for one in await every(users.pages(session_of(owned, caller)))] == [
            "mailer"
        ]
    everyone = await every(users.pages(session_of(owned)))
    assert [one.name for one in everyone] == ["mailer", "other"]
