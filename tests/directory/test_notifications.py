"""Topics, subscriptions, notification settings and configuration sets in the directory."""

from typing import Any, Final

import pytest
from msgspec.structs import replace

from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.settings import (
    NO_NOTIFICATIONS,
    ConfigurationSet,
    EventDestination,
    NotificationSettings,
)
from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import delete_account
from smtpgate.directory.change import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.configuration_sets import (
    configuration_set,
    delete_configuration_set,
    destinations_of,
    update_destination,
)
from smtpgate.directory.event_settings import DirectorySubscribers, event_settings
from smtpgate.directory.identities import delete_identity, identity, update_identity
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.notifications import (
    notifications_of_account,
)
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.topics import (
    SubscriptionRow,
    confirm_by_token,
    delete_subscription,
    delete_topic,
    new_token,
    subscription,
    subscriptions_of,
    topic,
    topic_page,
    update_topic,
)
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, live
from tests.support.notifications import BOUNCE, MAIL
from tests.support.tenants import ACME, OTHER, add_account, add_identity, notes, raw
from tests.support.topics import add_destination, add_set, add_topic, notify, subscribe
from tests.support.world import REGION

TOPIC: Final = SnsArn("aws", REGION, ACME, "bounces")
SECRET: Final = Secret("whsec_" + "A" * 32)


@pytest.fixture(autouse=True)
async def tenants(store: DirectoryStore) -> None:
    """An owner with an identity, and another account."""
    await add_account(store)
    await add_account(store, OTHER)
    await add_identity(store)


# -- topics and subscriptions ------------------------------------------------------------------


async def test_a_topic_is_made_listed_changed_and_deleted(store: DirectoryStore) -> None:
    made = await add_topic(store)
    assert made.arn("aws") == "arn:aws:sns:us-east-1:111111111111:bounces"
    await add_topic(store, "complaints", OTHER)
    async with store.changing(ACTOR) as change:
        changed = await update_topic(change, made, {"signature_version": "2"})
        assert await topic(change.connection, ACME, REGION, "bounces") == changed
        assert await topic_page(change.connection, REGION, account_id=ACME) == [changed]
        assert len(await topic_page(change.connection, REGION)) == 2
        after = await topic_page(change.connection, REGION, after=(ACME, "bounces"))
        assert [row.name for row in after] == ["complaints"]
        await delete_topic(change, changed)
    found = [(note.action, note.kind, note.name) for note in await notes(store)][-4:]
    assert found == [
        ("create", "topic", "bounces"),
        ("create", "topic", "complaints"),
        ("change", "topic", "bounces"),
        ("delete", "topic", "bounces"),
    ]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 257, "bounces.fifo"])
async def test_a_name_that_no_topic_has_is_refused(store: DirectoryStore, name: str) -> None:
    with pytest.raises(RefusedChangeError, match="256 letters"):
        await add_topic(store, name)


async def test_a_topic_is_there_once(store: DirectoryStore) -> None:
    await add_topic(store)
    with pytest.raises(ConflictError, match="topic 111111111111/bounces already exists"):
        await add_topic(store)


async def test_secrets_of_a_subscription_are_sealed_and_opened_for_the_cache(
    store: DirectoryStore,
) -> None:
    await add_topic(store)
    made = await subscribe(
        store, "https://me:pass%40word@hooks.example.com/x", form="raw", secret=SECRET
    )
    assert made.endpoint == "https://hooks.example.com/x"
    text = repr(await raw(store, "SELECT * FROM subscriptions"))
    assert "pass" not in text
    assert "whsec" not in text
    assert "pass" not in repr(await notes(store))
    directory = live(store)
    await directory.catch_up()
    (known,) = await directory.subscriptions(ACME, "bounces")
    assert known.arn == made.arn("aws")
    assert known.credentials == Secret("me:pass@word")
    assert known.secret == SECRET
    assert not known.is_confirmed


async def test_an_endpoint_is_subscribed_once(store: DirectoryStore) -> None:
    await add_topic(store)
    await subscribe(store)
    with pytest.raises(ConflictError, match=r"subscription of https://hooks.example.com/"):
        await subscribe(store)
    await subscribe(store, form="raw", secret=SECRET)


async def test_a_token_confirms_its_subscription_once_within_three_days(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await add_topic(store)
    other, made = await subscribe(store, "https://other.example/"), await subscribe(store)
    async with store.changing(ACTOR) as change:
        made, token = await new_token(change, made)
        other, _ = await new_token(change, other)
    with pytest.raises(RefusedChangeError, match="wrong"):
        await confirm(store, "0" * 64)
    clock.move(3 * 86_400)
    with pytest.raises(RefusedChangeError, match="too old"):
        await confirm(store, token.value)
    async with store.changing(ACTOR) as change:
        made, token = await new_token(change, made)
    confirmed = await confirm(store, token.value)
    assert (confirmed.id, confirmed.is_confirmed) == (made.id, True)
    with pytest.raises(RefusedChangeError, match="used already"):
        await confirm(store, token.value)
    async with store.reading() as connection:
        assert not (await subscription(connection, REGION, other.arn("aws"))).is_confirmed


async def confirm(store: DirectoryStore, token: str) -> SubscriptionRow:
    async with store.changing(ACTOR) as change:
        return await confirm_by_token(change, REGION, TOPIC, token)


async def test_a_subscription_is_named_by_its_whole_arn(store: DirectoryStore) -> None:
    await add_topic(store)
    made = await subscribe(store)
    arn = made.arn("aws")
    async with store.changing(ACTOR) as change:
        for wrong in (str(TOPIC), arn.replace(ACME, OTHER), arn.replace("bounces", "x"), "x"):
            with pytest.raises(NotFoundError):
                await subscription(change.connection, REGION, wrong)
        await delete_subscription(change, await subscription(change.connection, REGION, arn))
        assert await subscriptions_of(change.connection, REGION) == []


async def test_a_topic_that_a_setting_names_stays(store: DirectoryStore) -> None:
    made = await add_topic(store)
    await notify(store, bounce_topic="bounces")
    async with store.changing(ACTOR) as change:
        with pytest.raises(ConflictError, match="used by the notifications of an identity"):
            await delete_topic(change, made)
    await notify(store, bounce_topic=None)
    await add_set(store)
    await add_destination(store, "BOUNCE")
    async with store.changing(ACTOR) as change:
        with pytest.raises(ConflictError, match="used by an event destination"):
            await delete_topic(change, made)


async def test_an_account_with_topics_or_sets_stays(store: DirectoryStore) -> None:
    await add_topic(store, account_id=OTHER)
    async with store.changing(ACTOR) as change:
        with pytest.raises(ConflictError, match="still has topics"):
            await delete_account(change, OTHER)
        await delete_topic(change, await topic(change.connection, OTHER, REGION, "bounces"))
        await delete_account(change, OTHER)


# -- notifications of identities ---------------------------------------------------------------


async def test_owner_and_delegate_have_settings_each(store: DirectoryStore) -> None:
    await add_topic(store)
    await add_topic(store, "their", OTHER)
    await notify(store, bounce_topic="bounces", bounce_headers=True)
    await notify(store, OTHER, bounce_topic="their", delivery_topic="their")
    async with store.reading() as connection:
        (their,) = await notifications_of_account(connection, OTHER, REGION)
    assert (their.owner_id, their.bounce_topic) == (ACME, "their")
    directory = live(store)
    await directory.catch_up()
    own = await directory.notifications("example.com", ACME, ACME)
    assert own == NotificationSettings(bounce_topic=str(TOPIC), bounce_headers=True)
    other = await directory.notifications("example.com", ACME, OTHER)
    assert (
        other.bounce_topic
        == other.delivery_topic
        == str(replace(TOPIC, account_id=OTHER, name="their"))
    )
    assert await directory.notifications("example.org", ACME, ACME) == NO_NOTIFICATIONS


_REFUSED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "no forwarding without topics": ("only while", {"is_forwarding": False}),
    "no forwarding with one topic": (
        "only while",
        {"is_forwarding": False, "bounce_topic": "bounces"},
    ),
    "an unknown topic": ("no topic 111111111111/nowhere", {"bounce_topic": "nowhere"}),
}


@pytest.mark.parametrize("case", _REFUSED)
async def test_settings_that_contradict_each_other_are_refused(
    store: DirectoryStore, case: str
) -> None:
    await add_topic(store)
    says, columns = _REFUSED[case]
    with pytest.raises(RefusedChangeError, match=says):
        await notify(store, **columns)


async def test_headers_may_be_set_before_the_topic_as_at_ses(store: DirectoryStore) -> None:
    await notify(store, bounce_headers=True)
    directory = live(store)
    await directory.catch_up()
    found = await directory.notifications("example.com", ACME, ACME)
    assert found == NotificationSettings(bounce_headers=True)
    assert (await notify(store, bounce_headers=False)).bounce_topic is None


async def test_forwarding_is_the_owner_s(store: DirectoryStore) -> None:
    await add_topic(store)
    await add_topic(store, "their", OTHER)
    topics = {"bounce_topic": "bounces", "complaint_topic": "bounces"}
    assert not (await notify(store, is_forwarding=False, **topics)).is_forwarding
    with pytest.raises(RefusedChangeError, match="only while"):
        await notify(store, complaint_topic=None)
    with pytest.raises(RefusedChangeError, match="set by the owner"):
        await notify(store, OTHER, is_forwarding=False)


async def test_a_deleted_identity_takes_its_owner_s_settings_along(
    store: DirectoryStore,
) -> None:
    await add_topic(store)
    await add_topic(store, "their", OTHER)
    await notify(store, bounce_topic="bounces")
    await notify(store, OTHER, bounce_topic="their")
    async with store.changing(ACTOR) as change:
        row = await identity(change.connection, ACME, REGION, "example.com")
        await delete_identity(change, row, "aws")
    left = await raw(store, "SELECT account_id FROM identity_notifications")
    assert [row.account_id for row in left] == [OTHER]


# -- configuration sets ------------------------------------------------------------------------


async def test_a_set_publishes_the_events_that_its_destinations_list(
    store: DirectoryStore,
) -> None:
    await add_topic(store)
    await add_set(store)
    await add_destination(store, "OPEN", "SEND", "BOUNCE", "SEND")
    made = await add_destination(store, "COMPLAINT", name="off")
    async with store.changing(ACTOR) as change:
        await update_destination(change, made, {"is_enabled": False})
        rows = await destinations_of(change.connection, REGION, ACME, "spring")
    assert [list(row.types) for row in rows] == [["SEND", "BOUNCE", "OPEN"], ["COMPLAINT"]]
    directory = live(store)
    await directory.catch_up()
    assert await directory.configuration_set(ACME, "spring") == ConfigurationSet(
        account_id=ACME,
        name="spring",
        destinations=(EventDestination("a", ("Send", "Bounce"), str(TOPIC)),),
    )
    assert await directory.configuration_set(OTHER, "spring") is None


@pytest.mark.parametrize("types", [(), ("send",), ("SEND", "OTHER")])
async def test_types_that_ses_has_not_are_refused(
    store: DirectoryStore, types: tuple[str, ...]
) -> None:
    await add_topic(store)
    await add_set(store)
    with pytest.raises(RefusedChangeError, match="DELIVERY_DELAY"):
        await add_destination(store, *types)


async def test_the_default_set_of_an_identity_stays(store: DirectoryStore) -> None:
    made = await add_set(store)
    async with store.changing(ACTOR) as change:
        row = await identity(change.connection, ACME, REGION, "example.com")
        row = await update_identity(
            change, row, {"configuration_set": "spring"}, action="change"
        )
        with pytest.raises(ConflictError, match="default one of an identity"):
            await delete_configuration_set(change, made)
    directory = live(store)
    await directory.catch_up()
    (known,) = await directory.identities("example.com")
    assert known.configuration_set == "spring"
    async with store.changing(ACTOR) as change:
        await update_identity(change, row, {"configuration_set": None}, action="change")
        await delete_configuration_set(change, made)
        with pytest.raises(NotFoundError, match="<spring> does not exist"):
            await configuration_set(change.connection, ACME, REGION, "spring")


# -- what the path sees ------------------------------------------------------------------------


async def settings_of(
    directory: LiveDirectory, account_id: str = OTHER, source: str = "a@example.com"
) -> Any:  # noqa: ANN401 - as the function has it
    mail = replace(
        MAIL,
        identity=f"arn:aws:ses:{REGION}:{ACME}:identity/example.com",
        owner_id=ACME,
        account_id=account_id,
        source=source,
    )
    return await event_settings(directory, mail)


async def test_a_change_of_any_setting_is_seen(store: DirectoryStore) -> None:
    directory = live(store)
    await directory.catch_up()
    found = await settings_of(directory)
    assert found.owner == found.sender == NO_NOTIFICATIONS
    assert found.forwards_for == ACME
    await add_topic(store, "their", OTHER)
    await add_set(store, account_id=OTHER)
    await notify(store, OTHER, bounce_topic="their")
    await add_destination(store, "SEND", topic="their", account_id=OTHER)
    await directory.catch_up()
    found = await settings_of(directory)
    (name,) = found.subscriptions
    assert found.sender.bounce_topic == name
    assert found.configuration_set.destinations == (EventDestination("a", ("Send",), name),)
    assert found.subscriptions == {name: ()}
    made = await subscribe(store, topic="their", account_id=OTHER, is_confirmed=True)
    await directory.catch_up()
    (known,) = (await settings_of(directory)).subscriptions[name]
    assert known.is_confirmed
    async with store.changing(ACTOR) as change:
        await delete_subscription(change, made)
    await directory.catch_up()
    assert (await settings_of(directory)).subscriptions == {name: ()}


async def test_a_delegate_s_own_return_path_forwards_to_it(store: DirectoryStore) -> None:
    await add_topic(store)
    await add_identity(store, "example.net", OTHER)
    topics = {"bounce_topic": "bounces", "complaint_topic": "bounces"}
    await notify(store, is_forwarding=False, **topics)
    directory = live(store)
    await directory.catch_up()
    assert (await settings_of(directory)).forwards_for == ""
    assert (await settings_of(directory, source="b@in.example.net")).forwards_for == OTHER
    assert (await settings_of(directory, source="")).forwards_for == ""
    assert (await settings_of(directory, ACME, "b@in.example.net")).forwards_for == ""


async def test_mail_without_an_identity_has_the_settings_of_its_set(
    store: DirectoryStore,
) -> None:
    directory = live(store)
    await directory.catch_up()
    found = await event_settings(directory, replace(MAIL, identity="", owner_id=""))
    assert (found.forwards_for, found.configuration_set) == ("", None)


async def test_the_subscribers_of_an_event_are_its_destinations(store: DirectoryStore) -> None:
    await add_topic(store)
    made = await subscribe(store, is_confirmed=True)
    await notify(store, bounce_topic="bounces")
    directory = live(store)
    await directory.catch_up()
    identity_arn = f"arn:aws:ses:{REGION}:{ACME}:identity/example.com"
    mail = replace(MAIL, identity=identity_arn, owner_id=ACME)
    found = await DirectorySubscribers(directory).destinations(replace(BOUNCE, mail=mail))
    assert [(one.kind, one.name, one.form) for one in found] == [
        ("webhook", made.arn("aws"), "notification"),
        ("mail", MAIL.source, ""),
        ("list", MAIL.account_id, ""),
    ]
