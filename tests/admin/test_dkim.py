"""DKIM keys as the use cases make them and move them through their stages."""

from datetime import timedelta

import pytest

from smtpgate.admin import dkim
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Session
from smtpgate.core.proof.dkim_stages import StageError
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.dns_records import Records
from tests.support.tenants import add_account, add_identity
from tests.support.world import OWNER

DOMAIN = IdentityRef(OWNER, "ses-example.com")


def zone(*keys: dkim.DkimKeyDetails) -> Records:
    """A DNS with the records of those keys."""
    return Records({key.publish.name: [key.publish.value.encode()] for key in keys})


@pytest.fixture
async def session(store: DirectoryStore, clock: MovableClock) -> Session:
    """The session of an account's root with a domain."""
    await add_account(store, OWNER)
    await add_identity(store, DOMAIN.name, OWNER)
    return session_of(store, root(), clock=clock)


async def stages(session: Session) -> dict[str, str]:
    pages = dkim.pages(session, ref=DOMAIN)
    return {key.selector: key.stage async for page in pages for key in page}


async def test_keys_are_called_by_the_date_until_a_name_is_given(session: Session) -> None:
    made = [
        *await dkim.generate(session, DOMAIN, "ed25519"),
        *await dkim.generate(session, DOMAIN, "ed25519"),
        *await dkim.generate(session, DOMAIN, "both", "mail"),
    ]
    assert {key.selector: key.algorithm for key in made} == {
        "gate20261123": "ed25519-sha256",
        "gate20261123-2": "ed25519-sha256",
        "mail-rsa": "rsa-sha256",
        "mail-ed25519": "ed25519-sha256",
    }
    assert made[0].publish.name == "gate20261123._domainkey.ses-example.com"
    assert set((await stages(session)).values()) == {"pending"}


async def test_a_key_signs_when_its_record_is_published_and_the_one_before_it_retires(
    session: Session, clock: MovableClock
) -> None:
    (one,) = await dkim.generate(session, DOMAIN, "ed25519", "one")
    (two,) = await dkim.generate(session, DOMAIN, "ed25519", "two")
    with pytest.raises(StageError, match="is not published as it should be"):
        await dkim.activate(session, DOMAIN, "one", zone(two))
    assert await dkim.activate(session, DOMAIN, "ONE", zone(one)) == {}
    retiring = await dkim.activate(session, DOMAIN, "two", zone(one, two))
    assert retiring == {"one": clock.now() + timedelta(days=7)}
    found = await dkim.check(session, DOMAIN, zone(two))
    assert {name: check.kind for name, check in found.items()} == {
        "one": "absent",
        "two": "matches",
    }


async def test_the_last_key_and_one_with_mail_in_transit_go_only_by_force(
    session: Session,
) -> None:
    (one,) = await dkim.generate(session, DOMAIN, "ed25519", "one")
    await dkim.activate(session, DOMAIN, "one", zone(one))
    with pytest.raises(StageError, match="no key would sign"):
        await dkim.retire(session, DOMAIN, "one")
    await dkim.retire(session, DOMAIN, "one", force=True)
    with pytest.raises(StageError, match="may not be delivered yet"):
        await dkim.delete(session, DOMAIN, "one")
    await dkim.delete(session, DOMAIN, "one", force=True)
    assert await stages(session) == {}
