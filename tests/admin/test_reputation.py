"""Reputations as owners, delegates and operators see and change them."""

from typing import Final

import pytest

from smtpgate.admin import configuration_sets, reputation
from smtpgate.admin.errors import NotAuthorizedError, NotFoundError, RefusedChangeError
from smtpgate.admin.refs import ConfigurationSetRef, DelegateRef, IdentityRef
from smtpgate.admin.session import Session
from smtpgate.core.reputation.judgement import Reputation
from smtpgate.core.reputation.sender import RatedMail, RatedSender
from smtpgate.directory.reputations import all_rating_settings
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.rated_mail import SentMail
from tests.support.reputations import pause, rate
from tests.support.tenants import add_account, add_identity, notes
from tests.support.topics import add_set
from tests.support.world import DELEGATE, OWNER

NAME: Final = "ses-example.com"
DOMAIN: Final = IdentityRef(OWNER, NAME)
REF: Final = DelegateRef(DOMAIN, DELEGATE)
SENDER: Final = RatedSender.delegate(DELEGATE, OWNER, NAME)
ACCOUNT: Final = RatedSender.account(DELEGATE)
SET: Final = ConfigurationSetRef(DELEGATE, "spring")
ITS_SET: Final = RatedSender.with_set(DELEGATE, "spring")
OTHER: Final = "777777777777"


@pytest.fixture(autouse=True)
async def furnished(store: DirectoryStore) -> None:
    """An owner with an identity, a delegate with a configuration set, and another account."""
    for account_id in (OWNER, DELEGATE, OTHER):
        await add_account(store, account_id)
    await add_identity(store, NAME, OWNER)
    await add_set(store, "spring", DELEGATE)


@pytest.fixture
def session(store: DirectoryStore, clock: MovableClock) -> Session:
    return session_of(store, clock=clock)


@pytest.fixture
def mail(clock: MovableClock) -> SentMail:
    """Mail of the delegate, of another account, and of the owner itself, by the identity."""
    sent = SentMail()
    now = clock.now()
    sent.send(now, RatedMail(DELEGATE, OWNER, NAME, "spring"), 10_000, 200, 7)
    sent.send(now, RatedMail(DELEGATE, DELEGATE, "other.example"), 10_000, 800)
    sent.send(now, RatedMail(OTHER, OWNER, NAME), 500, 50)
    sent.send(now, RatedMail(OWNER, OWNER, NAME), 500, 50)
    return sent


async def listed(session: Session, account_id: str | None = None) -> list[Reputation]:
    found = reputation.pages(session, account_id)
    return [one async for page in found for one in page]


async def test_an_owner_sees_the_rates_of_each_delegate(
    session: Session, mail: SentMail
) -> None:
    found = await reputation.of_identity(session, mail, DOMAIN)
    assert [one.reputation.sender.account_id for one in found] == [OTHER, DELEGATE]
    assert [one.volume.rate("bounce") for one in found] == [0.1, 0.02]
    assert not any(one.is_judged for one in found)
    await reputation.rate_delegates(session, DOMAIN, is_rated=True, auto_pause=True)
    found = await reputation.of_identity(session, mail, DOMAIN)
    assert all(one.is_judged and one.auto_pause for one in found)


async def test_an_account_sees_its_own_rates_and_those_of_its_sets(
    store: DirectoryStore, clock: MovableClock, mail: SentMail
) -> None:
    own = session_of(store, root(DELEGATE), clock=clock)
    (account,) = await reputation.of_account(own, mail, DELEGATE)
    assert account.is_judged
    assert not account.auto_pause
    assert (account.volume.sent, account.volume.rate("bounce")) == (20_000, 0.05)
    await reputation.rate_set(own, SET, is_rated=True)
    _, of_set = await reputation.of_account(own, mail, DELEGATE)
    assert of_set.reputation.sender == ITS_SET
    assert (of_set.volume.sent, of_set.volume.complaints) == (10_000, 7)
    for question in (
        reputation.of_account(own, mail, OWNER),
        reputation.of_identity(own, mail, DOMAIN),
    ):
        with pytest.raises(NotAuthorizedError):
            await question


async def test_an_owner_pauses_a_delegate_and_resumes_it(
    store: DirectoryStore, clock: MovableClock
) -> None:
    owner = session_of(store, root(OWNER), clock=clock)
    await reputation.pause_delegate(owner, REF, "contract over")
    (found,) = await listed(owner)
    assert found.sender == SENDER
    assert found.pause is not None
    assert (found.pause.by, found.pause.reason) == ("owner", "contract over")
    note = (await notes(store))[-1]
    assert (note.action, note.kind, note.name) == ("pause", "identity", NAME)
    assert note.after["delegate"] == DELEGATE
    # Paused again it has another reason.
    await reputation.pause_delegate(owner, REF, "really over")
    (found,) = await listed(owner)
    assert found.pause is not None
    assert found.pause.reason == "really over"
    with pytest.raises(NotAuthorizedError):
        await reputation.resume_delegate(session_of(store, root(DELEGATE)), REF)
    await reputation.resume_delegate(owner, REF)
    assert await listed(owner) == []
    with pytest.raises(RefusedChangeError, match=f"account {DELEGATE} by .* is not paused"):
        await reputation.resume_delegate(owner, REF)


async def test_a_pause_that_would_stop_nobody_is_refused(session: Session) -> None:
    for ref, problem in (
        (DelegateRef(DOMAIN, OWNER), f"account {OWNER} owns {NAME}"),
        (DelegateRef(DOMAIN, "123456789012"), "there is no account 123456789012"),
        (DelegateRef(IdentityRef(OWNER, "gone.example"), DELEGATE), "gone.example"),
    ):
        with pytest.raises(RefusedChangeError, match=problem):
            await reputation.pause_delegate(session, ref, "x")
    with pytest.raises(RefusedChangeError, match="say why it is paused"):
        await reputation.pause_delegate(session, REF, " ")


async def test_an_account_does_not_resume_itself(
    store: DirectoryStore, session: Session, clock: MovableClock
) -> None:
    await pause(store, ACCOUNT)
    assert await reputation.enforcement_status(session, DELEGATE) == "SHUTDOWN"
    own = session_of(store, root(DELEGATE), clock=clock)
    assert await reputation.enforcement_status(own, DELEGATE) == "SHUTDOWN"
    for attempt in (reputation.resume_account, reputation.start_account_again):
        with pytest.raises(NotAuthorizedError):
            await attempt(own, DELEGATE)
    await reputation.resume_account(session, DELEGATE)
    assert await reputation.enforcement_status(session, DELEGATE) == "PROBATION"
    (found,) = await listed(own)
    assert found.fresh_start_at == clock.now()
    with pytest.raises(RefusedChangeError, match=f"account {DELEGATE} is not paused"):
        await reputation.resume_account(session, DELEGATE)
    await reputation.start_account_again(session, DELEGATE)
    assert await reputation.enforcement_status(session, DELEGATE) == "HEALTHY"


async def test_a_delegate_is_judged_from_now_on_when_the_owner_says_so(
    store: DirectoryStore, clock: MovableClock, mail: SentMail
) -> None:
    owner = session_of(store, root(OWNER), clock=clock)
    await pause(store, SENDER)
    clock.move(86_400)
    await reputation.start_delegate_again(owner, REF)
    (found,) = await listed(owner)
    assert (found.bounce, found.status) == ("healthy", "SHUTDOWN")  # a pause stays
    rates = await reputation.of_identity(owner, mail, DOMAIN)
    assert [one.volume.sent for one in rates] == [500, 0]


async def test_a_set_that_is_resumed_makes_a_fresh_start(
    store: DirectoryStore, clock: MovableClock
) -> None:
    own = session_of(store, root(DELEGATE), clock=clock)
    assert await reputation.reputation_options(own, SET) == (False, None)
    await reputation.rate_set(own, SET, is_rated=True, auto_pause=True)
    await reputation.rate_set(own, SET, is_rated=True)  # the pause stays as it is
    async with store.reading() as connection:
        (settings,) = await all_rating_settings(connection, own.region)
    assert settings.auto_pause
    assert await reputation.reputation_options(own, SET) == (True, None)
    await pause(store, ITS_SET)
    for is_sending in (False, True):
        await configuration_sets.set_sending(own, SET, is_sending=is_sending)
    assert await reputation.reputation_options(own, SET) == (True, clock.now())
    (found,) = await listed(own)
    assert (found.pause, found.status) == (None, "PROBATION")
    clock.move(60)
    await configuration_sets.set_sending(own, SET, is_sending=True)  # it was already
    assert await reputation.reputation_options(own, SET) == (
        True,
        found.fresh_start_at,
    )


async def test_only_what_is_judged_can_be_paused_for_its_rates(session: Session) -> None:
    with pytest.raises(RefusedChangeError, match="only what is judged"):
        await reputation.rate_set(session, SET, is_rated=False, auto_pause=True)
    with pytest.raises(NotFoundError):
        await reputation.rate_set(session, ConfigurationSetRef(DELEGATE, "no"), is_rated=True)
    with pytest.raises(NotFoundError):
        await reputation.rate_delegates(
            session, IdentityRef(OWNER, "gone.example"), is_rated=True
        )
    await reputation.rate_set(session, SET, is_rated=True)
    await reputation.rate_set(session, SET, is_rated=False)
    assert await reputation.reputation_options(session, SET) == (False, None)


async def test_a_listing_is_of_the_account_that_asks(
    store: DirectoryStore, session: Session
) -> None:
    await pause(store, ACCOUNT)
    await pause(store, SENDER)
    await pause(store, RatedSender.account(OTHER))
    await rate(store, "set", "spring", DELEGATE)
    everyone = [RatedSender.account(OTHER), ACCOUNT, SENDER]
    assert [one.sender for one in await listed(session)] == everyone
    for account_id, senders in ((OWNER, [SENDER]), (DELEGATE, [ACCOUNT, SENDER])):
        assert [one.sender for one in await listed(session, account_id)] == senders
        own = session_of(store, root(account_id))
        assert [one.sender for one in await listed(own)] == senders
