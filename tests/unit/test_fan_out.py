from typing import Any

from msgspec.structs import replace

from smtpgate.core.notification.fan_out import destinations_of
from smtpgate.core.notification.settings import (
    ConfigurationSet,
    EventDestination,
    EventSettings,
    NotificationSettings,
    Subscription,
)
from smtpgate.core.outbox.task import Destination, Task
from tests.support.cases import load_cases
from tests.support.notifications import BOUNCE, EVENTS
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

CASES = load_cases("notification/20-fan-out.toml")
DELEGATE_S = frozenset({"their", "events"})
BY_KIND = {event.kind: event for event in EVENTS}


def subscription(topic: str, number: int, text: str) -> Subscription:
    """One of a topic of the delegate, or of the owner's, which are open to the delegate."""
    form, state, endpoint = text.split()
    account_id = DELEGATE if topic in DELEGATE_S else OWNER
    return Subscription(
        arn=f"{topic}/{number}",
        topic_arn=f"arn:aws:sns:us-east-1:{account_id}:{topic}",
        open_to=(DELEGATE,),
        form=form,  # type: ignore[arg-type]
        endpoint=endpoint,
        is_confirmed=state == "confirmed",
    )


def settings(case: dict[str, Any]) -> EventSettings:
    destinations = tuple(
        EventDestination(name, tuple(kinds), topic)
        for name, (topic, *kinds) in case.get("destinations", {}).items()
    )
    its_set = ConfigurationSet(account_id=DELEGATE, name="spring", destinations=destinations)
    return EventSettings(
        owner=NotificationSettings(**case.get("owner", {})),
        sender=NotificationSettings(**case.get("delegate", {})),
        forwards_for=case.get("forwards_for", ""),
        configuration_set=its_set if destinations else None,
        subscriptions={
            topic: tuple(subscription(topic, *each) for each in enumerate(texts))
            for topic, texts in case.get("subscriptions", {}).items()
        },
    )


def shown(destination: Destination) -> str:
    parts = destination.kind, destination.name, destination.account_id, destination.form
    return " ".join(filter(None, parts))


@rows("case", CASES, ids=lambda case: case["note"])
def test_an_event_is_sent_to_those_that_the_settings_name(case: dict[str, Any]) -> None:
    event = BY_KIND[case["kind"]]
    sender, source = case.get("sender"), case.get("source", event.mail.source)
    mail = replace(event.mail, source=source, account_id=sender or event.mail.account_id)
    found = destinations_of(replace(event, mail=mail), settings(case))
    assert [shown(destination) for destination in found] == case["receivers"]


def test_a_subscription_that_gets_an_event_in_two_forms_has_two_tasks() -> None:
    first = Task(BOUNCE, Destination("webhook", "a", "1", "notification"))
    second = Task(BOUNCE, Destination("webhook", "a", "1", "event"))
    assert first.id != second.id
