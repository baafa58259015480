"""Messages to topics when a setting begins to use them, and when a receiver ends it all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from smtpgate.admin import configuration_sets, notifications, tags, topics
from smtpgate.admin.errors import NotFoundError, NoticeNotKeptError, RefusedChangeError
from smtpgate.admin.links import SubscriptionLinks
from smtpgate.admin.refs import (
    ConfigurationSetRef,
    IdentityRef,
    SubscriptionRef,
    TaggedRef,
    TopicRef,
)
from smtpgate.admin.session import Session
from smtpgate.core.notification.settings import Subscription
from smtpgate.core.outbox.event import NoticeDetail, SendingEvent
from smtpgate.core.outbox.task import Task
from smtpgate.core.secret import Secret
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Added, JournalUnavailableError
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.tenants import add_account, add_identity, notes
from tests.support.topics import add_topic, subscribe
from tests.support.world import DELEGATE, OWNER

REF: Final = IdentityRef(OWNER, "ses-example.com")
TOPIC: Final = TopicRef(OWNER, "bounces")
SET: Final = ConfigurationSetRef(OWNER, "spring")
URL: Final = "https://hooks.example.com/"


@dataclass
class Kept:
    """Keeps tasks, or cannot."""

    tasks: list[Task] = field(default_factory=list)
    problem: str = ""

    async def add(self, tasks: Sequence[Task], events: Sequence[SendingEvent] = ()) -> Added:
        assert not events
        if self.problem:
            raise JournalUnavailableError(self.problem)
        self.tasks += tasks
        return Added(len(tasks))

    def take(self) -> list[tuple[str, str, str]]:
        """The kind of each destination, its form, and the text that it gets."""
        taken, self.tasks = self.tasks, []
        return sorted(
            (one.destination.kind, one.destination.form, notice_of(one).text) for one in taken
        )


def notice_of(task: Task) -> NoticeDetail:
    assert isinstance(task.event.detail, NoticeDetail)
    return task.event.detail


def token_of(notice: NoticeDetail) -> Secret:
    assert notice.token is not None
    assert notice.token.value not in repr(notice)
    return notice.token


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
async def session(store: DirectoryStore, clock: MovableClock, kept: Kept) -> Session:
    """An operator; the owner has a topic with a subscription of each form, one pending."""
    for account_id in (OWNER, DELEGATE):
        await add_account(store, account_id)
    await add_identity(store, REF.name, OWNER)
    for name in ("bounces", "others"):
        await add_topic(store, name, OWNER)
    for form, endpoint in (
        ("sns", f"{URL}sns"),
        ("raw", f"{URL}raw"),
        ("listmonk", f"{URL}listmonk"),
        ("email", "boss@example.com"),
    ):
        await subscribe(store, endpoint, form=form, account_id=OWNER, is_confirmed=True)  # type: ignore[arg-type]
    await subscribe(store, f"{URL}pending", account_id=OWNER)
    return replace(session_of(store, clock=clock), outbox=kept)


async def test_a_topic_of_an_identity_gets_ses_s_message_once_it_is_used(
    session: Session, kept: Kept
) -> None:
    await notifications.update(
        session, REF, topics={"Bounce": "bounces", "Complaint": "bounces"}
    )
    found = kept.take()
    assert [one[:2] for one in found] == [
        ("mail", "notice"),
        ("webhook", "notice"),
        ("webhook", "notice"),
    ]
    assert json.loads(found[0][2])["notificationType"] == "AmazonSnsSubscriptionSucceeded"
    # It is used already; then by another setting, and then by none.
    await notifications.update(session, REF, headers={"Bounce": True})
    await notifications.update(session, REF, topics={"Bounce": "bounces"})
    assert kept.take() == []
    await notifications.update(session, REF, topics={"Delivery": "bounces"})
    assert len(kept.take()) == 3
    await notifications.update(session, REF, topics={"Delivery": None})
    await notifications.update(session, REF, topics={"Delivery": "others"})
    assert kept.take() == []


async def test_a_topic_of_events_gets_ses_s_words_where_they_need_not_be_json(
    session: Session, kept: Kept
) -> None:
    await configuration_sets.create(session, SET)
    await configuration_sets.add_destination(session, SET, "all", ["SEND"], "others")
    assert kept.take() == []
    await configuration_sets.update_destination(session, SET, "all", topic="bounces")
    words = "Successfully validated SNS topic for Amazon SES event publishing."
    assert [(notice_of(one).text, notice_of(one).subject) for one in kept.tasks] == [
        (words, "Amazon SES Email Event Notification")
    ] * 2
    assert [kind for kind, *_ in kept.take()] == ["mail", "webhook"]
    await configuration_sets.update_destination(session, SET, "all", topic="bounces")
    await configuration_sets.update_destination(session, SET, "all", is_enabled=False)
    assert kept.take() == []


async def test_a_change_is_made_also_if_its_message_cannot_be_kept(
    session: Session, kept: Kept
) -> None:
    kept.problem = "the disk is full"
    with pytest.raises(NoticeNotKeptError, match="the change is done, but its message"):
        await notifications.update(session, REF, topics={"Bounce": "bounces"})
    assert (await notifications.get(session, REF)).topics["Bounce"] == "bounces"


async def test_without_an_outbox_there_are_no_messages(session: Session, kept: Kept) -> None:
    await notifications.update(replace(session, outbox=None), REF, topics={"Bounce": "bounces"})
    assert (await notifications.get(session, REF)).topics["Bounce"] == "bounces"
    assert kept.tasks == []


async def ref_of(session: Session, endpoint: str) -> SubscriptionRef:
    found = await topics.subscriptions(session)
    arn = next(one.arn for one in found if one.endpoint == endpoint)
    return SubscriptionRef(TOPIC, arn)


async def test_a_receiver_that_ends_its_subscription_gets_a_token_that_restores_it(
    session: Session, kept: Kept, clock: MovableClock
) -> None:
    ref = await ref_of(session, f"{URL}sns")
    await topics.end(session, ref)
    assert (await topics.get_subscription(session, ref)).state == "pending"
    (task,) = kept.tasks
    notice = notice_of(task)
    assert (task.destination.name, task.destination.account_id) == (ref.arn, OWNER)
    assert notice.text.startswith(f"You have chosen to deactivate subscription {ref.arn}.")
    with pytest.raises(RefusedChangeError, match="is not confirmed"):
        await topics.end(session, ref)
    await topics.confirm(session, TOPIC, token_of(notice))
    assert (await topics.get_subscription(session, ref)).state == "confirmed"
    with pytest.raises(RefusedChangeError, match="was used already"):
        await topics.confirm(session, TOPIC, token_of(notice))
    await topics.end(session, ref)
    clock.move(3 * 86_400)
    with pytest.raises(RefusedChangeError, match="too old"):
        await topics.confirm(session, TOPIC, token_of(notice_of(kept.tasks[-1])))


async def test_other_forms_have_no_such_envelope_and_are_deleted(
    session: Session, kept: Kept
) -> None:
    for endpoint in (f"{URL}raw", f"{URL}listmonk", "boss@example.com"):
        await topics.end(session, await ref_of(session, endpoint))
    assert kept.tasks == []
    states = {one.endpoint: one.state for one in await topics.subscriptions(session)}
    assert states == {f"{URL}sns": "confirmed", f"{URL}pending": "pending"}


class Reached:
    """Sends every token."""

    async def send(self, subscription: Subscription, token: Secret) -> str | None:
        return None


async def test_an_account_has_a_bounded_number_of_tokens_sent_a_day(
    store: DirectoryStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.admin.topics._MAX_TOKENS_A_DAY", 2)
    await add_account(store, OWNER)
    await add_topic(store, "bounces", OWNER)
    operator = session_of(store, clock=clock)
    theirs = session_of(store, root(OWNER), clock=clock)
    for number in range(2):
        to = f"joe{number}@example.net"
        made = await topics.subscribe(theirs, TOPIC, "email", to, Reached())
        await topics.unsubscribe(theirs, SubscriptionRef(TOPIC, made.details.arn))
    with pytest.raises(RefusedChangeError, match="2 confirmations of subscriptions were sent"):
        await topics.subscribe(theirs, TOPIC, "email", "joe@example.net", Reached())
    await topics.subscribe(operator, TOPIC, "email", "jim@example.net", Reached())
    clock.move(86_401)
    await topics.subscribe(theirs, TOPIC, "email", "jane@example.net", Reached())


# -- links, which receivers follow without a login ---------------------------------------------


@pytest.fixture
def links(session: Session, kept: Kept) -> SubscriptionLinks:
    return SubscriptionLinks(session.config, session.store, session.clock, kept, _fail)


def _fail(error: BaseException) -> None:
    raise error


class Tokens(Reached):
    """Keeps the tokens that were sent."""

    def __init__(self) -> None:
        self.last = Secret("none")

    async def send(self, subscription: Subscription, token: Secret) -> str | None:
        self.last = token
        return None


async def test_links_change_a_subscription_in_the_name_of_its_receiver(
    session: Session, links: SubscriptionLinks
) -> None:
    topic_arn, sent = session.topic_arn(TOPIC), Tokens()
    made = await topics.subscribe(session, TOPIC, "email", "joe@example.net", sent)
    arn = made.details.arn
    refused, why = await links.confirm(topic_arn, f"{sent.last.value}x", "192.0.2.7")
    assert refused is None
    assert why
    assert await links.confirm(topic_arn, sent.last.value, "192.0.2.7") == (arn, "")
    (*_, confirmed) = await notes(session.store)
    assert (confirmed.actor, confirmed.origin) == ("subscriber", "link from 192.0.2.7")
    assert await links.unsubscribe(arn, "192.0.2.7") is None
    assert await links.unsubscribe(arn, "192.0.2.7"), "it is gone"


async def test_a_link_with_an_arn_that_is_none_is_refused(links: SubscriptionLinks) -> None:
    refused, why = await links.confirm("bounces", "token", "192.0.2.7")
    assert refused is None
    assert why == await links.unsubscribe("bounces", "192.0.2.7")


async def test_a_subscription_ends_also_if_its_message_cannot_be_kept(
    session: Session, links: SubscriptionLinks, kept: Kept
) -> None:
    errors: list[BaseException] = []
    ref, kept.problem = await ref_of(session, f"{URL}sns"), "the disk is full"
    ending = replace(links, on_error=errors.append)
    assert await ending.unsubscribe(ref.arn, "192.0.2.7") is None
    assert [type(error) for error in errors] == [NoticeNotKeptError]
    assert (await topics.get_subscription(session, ref)).state == "pending"


# -- topics and sets ---------------------------------------------------------------------------


async def test_a_topic_has_a_name_for_people_and_a_version_of_its_signatures(
    session: Session,
) -> None:
    named = await topics.update(session, TOPIC, display_name="Bounces")
    assert named.display_name == "Bounces"
    signed = await topics.update(session, TOPIC, "2")
    assert (signed.display_name, signed.signature_version) == ("Bounces", "2")
    with pytest.raises(RefusedChangeError, match="at most 100 characters"):
        await topics.update(session, TOPIC, display_name="x" * 101)
    with pytest.raises(RefusedChangeError, match="only a raw subscription has a secret"):
        await topics.subscribe(
            session, TOPIC, "email", "a@example.net", Reached(), secret=Secret("s")
        )


async def test_a_set_is_made_with_its_tags_and_has_no_destination_by_another_name(
    session: Session,
) -> None:
    with pytest.raises(RefusedChangeError, match="Tags"):
        await configuration_sets.create(session, SET, {"": "x"})
    await configuration_sets.create(session, SET, {"team": "news"})
    tagged = TaggedRef(OWNER, "set", SET.name)
    assert await tags.of(session, tagged) == {"team": "news"}
    await configuration_sets.add_destination(session, SET, "all", ["SEND"], "others")
    with pytest.raises(NotFoundError, match="has no event destination none"):
        await configuration_sets.delete_destination(session, SET, "none")


async def test_settings_of_notifications_are_of_one_identity(session: Session) -> None:
    with pytest.raises(RefusedChangeError, match="name one identity"):
        await notifications.get(session, IdentityRef(OWNER, "*"))
