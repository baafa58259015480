"""Everybody of a directory, page by page: each account's root and each user, once, in order."""

from datetime import UTC, datetime
from typing import Final

import pytest
from sqlalchemy import insert

from smtpgate.core.account import Principal, SendingLimits
from smtpgate.directory.load import Loader
from smtpgate.directory.principals import DirectoryPrincipals
from smtpgate.directory.schema import accounts, policies, users
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import DirectoryUnavailableError
from tests.support.tenants import ACME, OTHER, add_account, add_user, raw

_THEN: Final = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def principals(store: DirectoryStore) -> DirectoryPrincipals:
    """The principals of the store."""
    return DirectoryPrincipals(
        store, Loader.of(store, SendingLimits(200, 1), address_tag_idiom=False)
    )


async def everybody(principals: DirectoryPrincipals) -> list[Principal]:
    return [one async for page in principals.pages() for one in page]


async def fill(store: DirectoryStore) -> list[tuple[str, str | None]]:
    """Accounts of which every third has no user, every third one, and one very many."""
    names = {f"{number:012}": ["a"] * (number % 3 > 0) for number in range(1, 700)}
    names["000000000350"] = [f"user-{number:04}" for number in range(1100)]
    users_of = [(account_id, name) for account_id, has in names.items() for name in has]
    async with store.database.changing() as connection:
        await connection.execute(
            insert(accounts),
            [{"id": one, "name": one, "created_at": _THEN} for one in names],
        )
        await connection.execute(
            insert(users),
            [
                {
                    "account_id": account_id,
                    "key": name,
                    "name": name,
                    "path": "/",
                    "tags": {},
                    "unique_id": f"AIDA{number:017}",
                    "created_at": _THEN,
                }
                for number, (account_id, name) in enumerate(users_of)
            ],
        )
        await connection.execute(
            insert(policies),
            [
                {
                    "account_id": account_id,
                    "kind": "user",
                    "region": "",
                    "subject": name,
                    "name": f"of-{account_id}-{name}",
                    "document": '{"Statement": {"Effect": "Deny", "Action": "*", '
                    '"Resource": "*"}}',
                    "version": 1,
                    "changed_at": _THEN,
                    "changed_by": "x",
                }
                for account_id, name in users_of
            ],
        )
    return [(account_id, name) for account_id, has in names.items() for name in (None, *has)]


async def test_everybody_comes_once_in_order_with_policies_of_their_own(
    store: DirectoryStore, principals: DirectoryPrincipals
) -> None:
    wanted = await fill(store)
    found = await everybody(principals)
    assert [(one.account.id, one.user_name) for one in found] == wanted
    for one in found:
        has = [] if one.is_root else [f"of-{one.account.id}-{one.user_name}"]
        assert [policy.name for policy in one.policies] == has


async def test_an_empty_directory_has_nobody(principals: DirectoryPrincipals) -> None:
    assert await everybody(principals) == []


async def test_one_is_found_by_name_or_arn_and_kept(
    store: DirectoryStore, principals: DirectoryPrincipals
) -> None:
    await add_account(store)
    await add_account(store, OTHER)
    await add_user(store, "Mailer", path="/team/", tags={"a": "b"})
    by_name = await principals.one(ACME, "Mailer")
    assert by_name is not None
    assert by_name.arn == f"arn:aws:iam::{ACME}:user/team/Mailer"
    assert by_name.tags == (("a", "b"),)
    assert await principals.one(ACME, by_name.arn) == by_name
    for account_id, user in ((ACME, "mailer"), (OTHER, "Mailer"), (ACME, "arn:x"), ("x", None)):
        assert await principals.one(account_id, user) is None
    root = await principals.one(ACME, None)
    assert root is not None
    assert root.is_root
    assert await principals.one(ACME, "Mailer") is by_name


async def test_what_cannot_be_compiled_is_no_principal_with_fewer_policies(
    store: DirectoryStore, principals: DirectoryPrincipals
) -> None:
    await add_account(store)
    await add_user(store)
    await raw(store, "UPDATE policies SET document = '{}'")
    with pytest.raises(DirectoryUnavailableError, match="a user policy cannot be used"):
        await principals.one(ACME, "mailer")
    with pytest.raises(DirectoryUnavailableError):
        await everybody(principals)
