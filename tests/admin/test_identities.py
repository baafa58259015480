"""Identities as the use cases show and change them for each kind of caller."""

import pytest

from smtpgate.admin import identities, verification
from smtpgate.admin.errors import NotAuthorizedError, RefusedChangeError
from smtpgate.admin.refs import IdentityRef
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import allow, deny, root, session_of, user
from tests.support.dns_records import Records, checks_by
from tests.support.tenants import add_account, add_identity
from tests.support.upstream_server import open_upstream, relay_to
from tests.support.world import DELEGATE, OWNER

DOMAIN = IdentityRef(OWNER, "ses-example.com")
ADDRESS = IdentityRef(OWNER, "me@example.com")


@pytest.fixture
async def owned(store: DirectoryStore) -> DirectoryStore:
    """A store with a domain of one account, and the same of another."""
    await add_account(store, OWNER)
    await add_account(store, DELEGATE)
    await add_identity(store, DOMAIN.name, OWNER)
    await add_identity(store, DOMAIN.name, DELEGATE)
    return store


async def test_an_account_proves_its_new_domain_with_either_of_two_records(
    owned: DirectoryStore,
) -> None:
    made = await identities.create(session_of(owned, root()), IdentityRef(OWNER, "new.example"))
    assert (made.status, made.is_verified, made.method) == ("pending", False, None)
    assert [record.name for record in made.publish] == ["_smtpgate.new.example", "new.example"]


async def test_nobody_but_an_operator_vouches_for_an_identity(owned: DirectoryStore) -> None:
    new = IdentityRef(OWNER, "new.example")
    for caller in (root(), user(allow("*"))):
        with pytest.raises(NotAuthorizedError, match="smtpgate:VouchForIdentity"):
            await identities.create(session_of(owned, caller), new, is_trusted=True)
    made = await identities.create(session_of(owned), new, is_trusted=True)
    assert (made.is_verified, made.method) == (True, "trust")


@pytest.mark.parametrize("name", ["ses-example.com", "SES-Example.COM", "ses-example.com."])
async def test_a_deny_on_an_identity_holds_in_every_spelling_of_its_name(
    owned: DirectoryStore, name: str
) -> None:
    arn = f"arn:aws:ses:us-east-1:{OWNER}:identity/ses-example.com"
    caller = user(allow("*"), deny("ses:DeleteIdentity", resource=arn))
    with pytest.raises((NotAuthorizedError, RefusedChangeError)):
        await identities.delete(session_of(owned, caller), IdentityRef(OWNER, name))
    assert (await identities.get(session_of(owned), DOMAIN)).is_verified


async def test_what_an_operator_paused_stays_so_until_an_operator_resumes_it(
    owned: DirectoryStore,
) -> None:
    await identities.pause(session_of(owned), DOMAIN, "key was stolen")
    for operation in (identities.resume, identities.delete):
        with pytest.raises(NotAuthorizedError):
            await operation(session_of(owned, root()), DOMAIN)
    assert (await identities.get(session_of(owned), DOMAIN)).paused_reason == "key was stolen"
    await identities.resume(session_of(owned), DOMAIN)
    await identities.delete(session_of(owned, root()), DOMAIN)


async def test_identities_of_other_accounts_are_not_listed(owned: DirectoryStore) -> None:
    for caller, found in (
        (root(), [OWNER]),
        (user(allow("ses:ListIdentities")), [OWNER]),
        (root(DELEGATE), [DELEGATE]),
    ):
        pages = identities.pages(session_of(owned, caller), name=DOMAIN.name)
        assert [one.account_id async for page in pages for one in page] == found


async def test_a_domain_is_proved_by_the_dns_and_an_address_by_a_code(
    owned: DirectoryStore,
) -> None:
    session = session_of(owned)
    with pytest.raises(RefusedChangeError, match="is an address, which a mailed code proves"):
        await verification.check_domain(session, ADDRESS, checks_by(Records()))
    with pytest.raises(RefusedChangeError, match="is a domain, which a DNS record proves"):
        async with open_upstream() as server, relay_to(server) as upstream:
            await verification.send_code(session, DOMAIN, upstream)
