"""Sending limits as the use cases set, raise and show them."""

from datetime import timedelta
from typing import TypedDict

import pytest

from smtpgate.admin import quotas
from smtpgate.admin.errors import NotAuthorizedError, NotFoundError, RefusedChangeError
from smtpgate.admin.quotas import QuotaRef
from smtpgate.admin.refs import AccessKeyRef, CapRef, IdentityRef, OwnerRef
from smtpgate.core.account import SendingLimits
from smtpgate.directory.store import DirectoryStore
from smtpgate.ledger.memory import MemoryLedger
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.rows import rows
from tests.support.tenants import add_account, add_identity, add_key, add_user
from tests.support.world import DELEGATE, IDENTITY, OWNER

KEY = AccessKeyRef("AKIAUSERSUSERSUSERS0")
DOMAIN = IdentityRef(OWNER, "ses-example.com")
MAILER = OwnerRef(OWNER, "mailer")
ACCOUNT = OwnerRef(OWNER, None)
CAP = CapRef(DOMAIN, DELEGATE)


class RaisedLimits(TypedDict, total=False):
    max_24h_send: int
    max_send_rate_per_s: float


@pytest.fixture(autouse=True)
async def furnished(store: DirectoryStore) -> None:
    """Two accounts; one has an identity, and a user with an access key."""
    for account_id in (OWNER, DELEGATE):
        await add_account(store, account_id)
    await add_identity(store, DOMAIN.name, OWNER)
    await add_user(store, "mailer", OWNER)
    await add_key(store, KEY.id, OWNER, user_name="mailer")


@pytest.mark.parametrize(
    ("ref", "name", "usual"),
    [
        (ACCOUNT, f"account {OWNER}", SendingLimits(50, 1)),
        (MAILER, f"user {OWNER}/mailer", SendingLimits(50, -1)),
        (KEY, f"access key {KEY.id}", SendingLimits(50, -1)),
        (CAP, f"account {DELEGATE} by {IDENTITY}", SendingLimits(50, -1)),
    ],
)
async def test_limits_are_set_raised_and_come_back(
    store: DirectoryStore, clock: MovableClock, ref: QuotaRef, name: str, usual: SendingLimits
) -> None:
    session = session_of(store, clock=clock)
    quota = await quotas.set_limits(session, ref, {"max_24h_send": 50})
    assert (quota.name, quota.usual, quota.limits, quota.raised) == (name, usual, usual, None)
    until = clock.now() + timedelta(days=1)
    quota = await quotas.raise_limits(session, ref, max_24h_send=500, until=until)
    assert (quota.usual, quota.limits.max_24h_send) == (usual, 500)
    assert quota.raised is not None
    assert quota.raised.until == until
    quota = await quotas.end_raise(session, ref)
    assert (quota.usual, quota.limits, quota.raised) == (usual, usual, None)


@rows(
    "raised, problem",
    [
        ({}, "a raise needs a limit"),
        ({"max_24h_send": 200}, "200 is no more than the usual 200"),
        ({"max_send_rate_per_s": 0.5}, "0.5 is no more than the usual 1"),
        ({"max_24h_send": 300, "max_send_rate_per_s": 1}, "1 is no more than the usual 1"),
        ({"max_24h_send": -7}, "is no more than the usual"),
    ],
)
async def test_a_raise_that_raises_nothing_is_refused(
    store: DirectoryStore, clock: MovableClock, raised: RaisedLimits, problem: str
) -> None:
    until = clock.now() + timedelta(days=1)
    with pytest.raises(RefusedChangeError, match=problem):
        await quotas.raise_limits(
            session_of(store, clock=clock), ACCOUNT, until=until, **raised
        )


async def test_what_is_unlimited_is_not_raised_and_a_raise_may_be_unlimited(
    store: DirectoryStore, clock: MovableClock
) -> None:
    session, until = session_of(store, clock=clock), clock.now() + timedelta(days=1)
    with pytest.raises(RefusedChangeError, match="there is no limit to raise"):
        await quotas.raise_limits(session, MAILER, max_24h_send=500, until=until)
    quota = await quotas.raise_limits(session, ACCOUNT, max_24h_send=-1, until=until)
    assert quota.limits.max_24h_send == -1


async def test_a_raise_ends_in_the_future(store: DirectoryStore, clock: MovableClock) -> None:
    session = session_of(store, clock=clock)
    with pytest.raises(RefusedChangeError, match="a raise ends later than now"):
        await quotas.raise_limits(session, ACCOUNT, max_24h_send=500, until=store.now())


async def test_a_cap_on_an_account_that_is_not_there_is_refused_but_may_be_taken_away(
    store: DirectoryStore,
) -> None:
    session = session_of(store, root())
    ref = CapRef(DOMAIN, "123456789012")
    with pytest.raises(NotFoundError, match="there is no account 123456789012"):
        await quotas.set_limits(session, ref, {"max_24h_send": 5})
    await quotas.set_limits(session, ref, {"max_24h_send": None})


async def test_an_account_does_not_lift_its_own_limits(
    store: DirectoryStore, clock: MovableClock
) -> None:
    session, until = session_of(store, root()), clock.now() + timedelta(days=1)
    await quotas.set_limits(session, MAILER, {"max_24h_send": 5})
    await quotas.set_limits(session, CAP, {"max_24h_send": 5})
    with pytest.raises(NotAuthorizedError):
        await quotas.set_limits(session, ACCOUNT, {"max_24h_send": 500})
    with pytest.raises(NotAuthorizedError):
        await quotas.raise_limits(session, ACCOUNT, max_24h_send=500, until=until)
    delegates = session_of(store, root(DELEGATE))
    with pytest.raises(NotAuthorizedError):
        await quotas.set_limits(delegates, CAP, {"max_24h_send": 500})


async def test_both_accounts_of_a_cap_see_it_with_what_is_left(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await quotas.set_limits(session_of(store, root()), CAP, {"max_24h_send": 10})
    ledger = MemoryLedger(lease_s=60)
    for caller, ref in (
        (root(), DOMAIN),
        (root(), ACCOUNT),
        (root(DELEGATE), OwnerRef(DELEGATE, None)),
    ):
        found = await quotas.of(session_of(store, caller, clock=clock), ref)
        known = await quotas.with_limit_statuses(ledger, found, clock.now())
        (cap,) = [one for one in known if one.subject.kind == "identity"]
        assert (cap.subject.account_id, cap.limits.max_24h_send) == (DELEGATE, 10)
        assert cap.limit_status is not None
        assert (cap.limit_status.left, cap.wait) == (10, None)
