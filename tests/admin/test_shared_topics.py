"""Topics of another account: who may name them in settings, and what is left without that."""

from typing import Final

import pytest

from smtpgate.admin import configuration_sets, notifications, topics
from smtpgate.admin.errors import NotAuthorizedError, RefusedChangeError
from smtpgate.admin.refs import ConfigurationSetRef, IdentityRef, TopicRef
from smtpgate.admin.session import Session
from smtpgate.core.notification.fan_out import destinations_of
from smtpgate.core.notification.settings import Subscription
from smtpgate.core.outbox.event import SentMail
from smtpgate.directory.change import ConflictError, NotFoundError
from smtpgate.directory.event_settings import event_settings
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.live import new_live_directory
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.notifications import AT, BOUNCE
from tests.support.tenants import add_account, add_identity, notes
from tests.support.topics import add_topic, subscribe
from tests.support.world import DELEGATE, IDENTITY, OWNER

REF: Final = IdentityRef(OWNER, "ses-example.com")
THEIRS: Final = TopicRef(DELEGATE, "ours")
NAMED: Final = f"{DELEGATE}/ours"
SET: Final = ConfigurationSetRef(OWNER, "spring")
MAIL: Final = SentMail("an id", AT, "a@example.com", (), OWNER, IDENTITY, OWNER)


@pytest.fixture
async def session(store: DirectoryStore, clock: MovableClock) -> Session:
    """The owner's root; the delegate has a topic with a subscription."""
    for account_id in (OWNER, DELEGATE):
        await add_account(store, account_id)
    await add_identity(store, REF.name, OWNER)
    await add_topic(store, "ours", DELEGATE)
    await subscribe(store, topic="ours", account_id=DELEGATE, is_confirmed=True)
    return session_of(store, root(OWNER), clock=clock)


def as_delegate(session: Session) -> Session:
    return session_of(session.store, root(DELEGATE))


async def notified(session: Session) -> list[str]:
    """The webhooks that get a bounce of the owner's mail, as a gate reads the settings."""
    directory = new_live_directory(session.config, session.store, MovableClock())
    settings = await event_settings(directory, MAIL)
    event = BOUNCE
    found = destinations_of(event, settings)
    return [one.account_id for one in found if one.kind == "webhook"]


async def test_a_setting_names_another_account_s_topic_once_that_is_open_to_it(
    session: Session,
) -> None:
    unknown = f"account {DELEGATE} has no topic ours in region us-east-1 that is open"
    for name in (NAMED, f"arn:aws:sns:us-east-1:{DELEGATE}:ours"):
        with pytest.raises(NotFoundError, match=unknown):
            await notifications.update(session, REF, topics={"Bounce": name})
    # One that does not exist has the same answer.
    with pytest.raises(NotFoundError, match=unknown.replace("ours", "none")):
        await notifications.update(session, REF, topics={"Bounce": f"{DELEGATE}/none"})
    await topics.allow(as_delegate(session), THEIRS, OWNER)
    arn = f"arn:aws:sns:us-east-1:{DELEGATE}:ours"
    await notifications.update(session, REF, topics={"Bounce": arn})
    assert (await notifications.get(session, REF)).topics["Bounce"] == NAMED
    await configuration_sets.create(session, SET)
    await configuration_sets.add_destination(session, SET, "all", ["BOUNCE"], NAMED)
    (destination,) = (await configuration_sets.get(session, SET)).destinations
    assert destination.topic == NAMED


async def test_an_own_topic_has_its_name_however_it_is_named(session: Session) -> None:
    await add_topic(session.store, "mine", OWNER)
    for name in ("mine", f"{OWNER}/mine", f"arn:aws:sns:us-east-1:{OWNER}:mine"):
        await notifications.update(session, REF, topics={"Bounce": name})
        assert (await notifications.get(session, REF)).topics["Bounce"] == "mine"
    for name in (
        f"arn:aws:sns:eu-west-1:{OWNER}:mine",
        "arn:aws:sqs:us-east-1:1:x",
        f"{DELEGATE}/{'x' * 244}",
    ):
        with pytest.raises(RefusedChangeError):
            await notifications.update(session, REF, topics={"Bounce": name})


async def test_the_end_of_the_permission_is_that_of_the_notifications(
    session: Session,
) -> None:
    await topics.allow(as_delegate(session), THEIRS, OWNER)
    await notifications.update(session, REF, topics={"Bounce": NAMED})
    assert await notified(session) == [DELEGATE]  # the topic is theirs, and so its tasks
    await topics.disallow(as_delegate(session), THEIRS, OWNER)
    assert await notified(session) == []
    # The setting can still be changed elsewhere, and taken back.
    await notifications.update(session, REF, headers={"Bounce": True})
    await notifications.update(session, REF, topics={"Bounce": None})


async def test_a_topic_that_is_deleted_and_made_again_is_open_to_nobody(
    session: Session,
) -> None:
    await topics.allow(as_delegate(session), THEIRS, OWNER)
    await notifications.update(session, REF, topics={"Bounce": NAMED})
    await topics.delete(as_delegate(session), THEIRS)
    await topics.create(as_delegate(session), THEIRS)
    await subscribe(session.store, topic="ours", account_id=DELEGATE, is_confirmed=True)
    assert (await topics.get(as_delegate(session), THEIRS))[0].open_to == ()
    assert await notified(session) == []


async def test_permissions_are_given_once_shown_and_audited(session: Session) -> None:
    theirs = as_delegate(session)
    with pytest.raises(RefusedChangeError, match="may use its own topics"):
        await topics.allow(theirs, THEIRS, DELEGATE)
    with pytest.raises(NotFoundError, match=f"account {OWNER} may not use"):
        await topics.disallow(theirs, THEIRS, OWNER)
    await topics.allow(theirs, THEIRS, OWNER)
    with pytest.raises(ConflictError, match=r"may use topic .* already"):
        await topics.allow(theirs, THEIRS, OWNER)
    (page,) = [page async for page in topics.pages(theirs)]
    assert [one.open_to for one in page] == [(OWNER,)]
    assert (await topics.update(theirs, THEIRS, "2")).open_to == (OWNER,)
    with pytest.raises(NotAuthorizedError):
        await topics.disallow(session, THEIRS, OWNER)
    await topics.disallow(theirs, THEIRS, OWNER)
    found = [one for one in await notes(session.store) if "allow" in one.action]
    assert [(one.action, one.before, one.after) for one in found] == [
        ("allow-topic", None, {"grantee": OWNER}),
        ("disallow-topic", {"grantee": OWNER}, None),
    ]


def test_a_subscription_serves_its_account_and_those_that_it_is_open_to() -> None:
    one = Subscription(
        arn="arn:aws:sns:us-east-1:999999999999:ours:x",
        topic_arn="arn:aws:sns:us-east-1:999999999999:ours",
        form="raw",
        endpoint="https://hooks.example.com/",
        open_to=("888888888888",),
    )
    assert [one.may_serve(each) for each in ("999999999999", "888888888888", "1", "")] == [
        *(True, True, False, False)
    ]
