"""Access keys as the use cases show and change them for each kind of caller."""

from datetime import timedelta

import pytest

from smtpgate.admin import keys
from smtpgate.admin.errors import NotAuthorizedError, NotFoundError, RefusedChangeError
from smtpgate.admin.refs import OwnerRef
from smtpgate.core.account import Principal
from smtpgate.core.secret import smtp_password
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import allow, deny, root, session_of, user
from tests.support.clock import MovableClock
from tests.support.tenants import add_account, add_key, add_user
from tests.support.world import DELEGATE, OWNER

ROOTS, USERS, OTHERS = "AKIAROOTROOTROOTROOT", "AKIAUSERSUSERSUSERS0", "AKIAOTHEROTHEROTHERO"
PRESS = "AKIAPRESSPRESSPRESS0"


@pytest.fixture
async def owned(store: DirectoryStore) -> DirectoryStore:
    """A store with keys of a root, of its user, and of another account's root."""
    await add_account(store, OWNER)
    await add_account(store, DELEGATE)
    await add_user(store, "mailer", OWNER)
    await add_key(store, ROOTS, OWNER)
    await add_key(store, USERS, OWNER, user_name="mailer")
    await add_key(store, OTHERS, DELEGATE)
    return store


async def ids(store: DirectoryStore, caller: Principal, limit: int | None = None) -> set[str]:
    pages = keys.pages(session_of(store, caller), limit=limit)
    return {key.id async for page in pages for key in page}


async def test_the_secret_and_the_password_come_with_a_new_key_and_never_again(
    owned: DirectoryStore,
) -> None:
    session = session_of(owned, user(allow("iam:*")))
    new = await keys.create(session, OwnerRef(OWNER, "Mailer"), {})
    assert new.smtp_password == smtp_password(new.secret, "us-east-1")
    assert new.secret.value not in repr(new)
    assert str(new.key.owner) == f"{OWNER}/mailer"
    assert await keys.get(session, new.key.id) == new.key


async def test_keys_of_the_root_are_listed_for_the_root_alone(owned: DirectoryStore) -> None:
    assert await ids(owned, root()) == {ROOTS, USERS}
    assert await ids(owned, user(allow("*"))) == {USERS}


async def test_nobody_makes_a_key_of_the_root_but_the_root(owned: DirectoryStore) -> None:
    with pytest.raises(NotAuthorizedError, match=f"arn:aws:iam::{OWNER}:root$"):
        await keys.create(session_of(owned, user(allow("*"))), OwnerRef(OWNER, None), {})
    _ = await keys.create(session_of(owned, root()), OwnerRef(OWNER, None), {})


@pytest.mark.parametrize("key_id", [OTHERS, "AKIANOBODYNOBODYNOBO"])
async def test_a_key_of_another_account_is_as_unknown_as_one_that_is_not_there(
    owned: DirectoryStore, key_id: str
) -> None:
    with pytest.raises(NotFoundError, match=f"there is no access key {key_id}"):
        await keys.disable(session_of(owned, root()), key_id)
    with pytest.raises(NotAuthorizedError, match=r"user/\*$"):
        await keys.disable(session_of(owned, user()), key_id)


async def test_a_key_cannot_expire_in_the_past(
    owned: DirectoryStore, clock: MovableClock
) -> None:
    session = session_of(owned, clock=clock)
    for call in (
        keys.create(session, OwnerRef(OWNER, None), {"expires_at": clock.now()}),
        keys.update(session, USERS, {"expires_at": clock.now()}),
    ):
        with pytest.raises(RefusedChangeError, match="it has passed"):
            await call


async def test_a_key_is_active_until_it_is_disabled_or_expires(
    owned: DirectoryStore, clock: MovableClock
) -> None:
    session = session_of(owned, clock=clock)
    await keys.update(session, USERS, {"expires_at": clock.now() + timedelta(minutes=1)})
    assert (await keys.get(session, USERS)).status == "active"
    clock.move(60)
    assert (await keys.get(session, USERS)).status == "expired"
    await keys.disable(session, USERS)
    assert (await keys.get(session, USERS)).status == "disabled"


@pytest.mark.parametrize("account_id", [OWNER, None])
@pytest.mark.parametrize("name", ["mailer", "MAILER", None])
async def test_keys_of_a_user_that_the_caller_has_no_right_to_are_not_listed(
    owned: DirectoryStore, account_id: str | None, name: str | None
) -> None:
    await add_user(owned, "press", OWNER, path="/team-a/")
    await add_key(owned, PRESS, OWNER, user_name="press")
    arn = f"arn:aws:iam::{OWNER}:user/mailer"
    session = session_of(owned, user(allow("*"), deny("iam:ListAccessKeys", resource=arn)))
    pages = keys.pages(session, account_id, name)
    if name is None:
        assert [key.id async for page in pages for key in page] == [PRESS]
    else:
        with pytest.raises(NotAuthorizedError, match=r":user/mailer$"):
            await anext(pages)
