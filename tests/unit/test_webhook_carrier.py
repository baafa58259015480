"""The bodies that subscriptions of each form get, over real sockets."""

import json
from collections.abc import Sequence
from typing import Final

import pytest
from msgspec.structs import replace

from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.settings import Subscription, SubscriptionForm
from smtpgate.core.notification.standard_webhooks import signed_headers
from smtpgate.core.outbox.event import EventRecipient, NoticeDetail, SendingEvent
from smtpgate.core.outbox.task import (
    Carried,
    Destination,
    DestinationForm,
    GivenUp,
    LeasedTask,
    Result,
    Task,
    TryAgain,
)
from smtpgate.core.secret import Secret
from smtpgate.webhooks.carrier import SnsFace, Webhooks
from smtpgate.webhooks.client import CallError, HttpAnswer
from tests.support.clock import MovableClock
from tests.support.notifications import AT, BOUNCE, must_fit
from tests.support.webhooks import Calls

TOPIC: Final = SnsArn("aws", "us-east-1", "888888888888", "bounces")
SUBSCRIPTION: Final = replace(TOPIC, id="00010203-0405-0607-0809-0a0b0c0d0e0f")
SECRET: Final = Secret("whsec_" + "A" * 32)


class Signer:
    """Signs nothing."""

    certificate_name = "SimpleNotificationService-x.pem"
    certificate_pem = b""

    def sign(self, text: str, version: str) -> str:
        return f"signed {version}"


def one(form: SubscriptionForm, *, is_confirmed: bool = True) -> Subscription:
    return Subscription(
        arn=str(SUBSCRIPTION),
        topic_arn=str(TOPIC),
        form=form,
        endpoint="https://hooks.example.com/x",
        is_confirmed=is_confirmed,
        credentials=Secret("me:pass"),
        secret=SECRET,
    )


async def carry(
    caller: Calls,
    *known: Subscription,
    form: DestinationForm = "notification",
    event: SendingEvent = BOUNCE,
    has_url: bool = True,
) -> Result:
    async def find(account_id: str, topic: str) -> Sequence[Subscription]:
        assert (account_id, topic) == ("888888888888", "bounces")
        return known

    face = SnsFace(Signer(), "https://gate.example.com") if has_url else None
    webhooks = Webhooks(caller, find, face, MovableClock())
    to = Destination("webhook", str(SUBSCRIPTION), "888888888888", form)
    return await webhooks.carry(LeasedTask(Task(event, to), 1, AT))


async def test_sns_gets_a_signed_envelope_with_the_notification_as_a_text() -> None:
    caller = Calls()
    assert isinstance(await carry(caller, one("sns")), Carried)
    ((url, headers, body, credentials),) = caller.calls
    assert (url, credentials) == ("https://hooks.example.com/x", Secret("me:pass"))
    assert headers["x-amz-sns-subscription-arn"] == str(SUBSCRIPTION)
    must_fit("sns", body.decode())
    shown = json.loads(body)
    must_fit("notification", shown["Message"])
    assert "Subject" not in shown
    assert shown["Signature"] == "signed 1"
    assert shown["MessageId"] == headers["x-amz-sns-message-id"]
    assert shown["UnsubscribeURL"] == (
        "https://gate.example.com/?Action=Unsubscribe&SubscriptionArn="
        "arn%3Aaws%3Asns%3Aus-east-1%3A888888888888%3Abounces"
        "%3A00010203-0405-0607-0809-0a0b0c0d0e0f"
    )


async def test_an_event_has_ses_s_subject() -> None:
    caller = Calls()
    await carry(caller, one("sns"), form="event")
    shown = json.loads(caller.calls[0][2])
    assert shown["Subject"] == "Amazon SES Email Event Notification"
    must_fit("event", shown["Message"])


async def test_headers_are_in_the_notification_where_they_are_wanted() -> None:
    caller = Calls()
    await carry(caller, one("raw"), form="notification-with-headers")
    assert json.loads(caller.calls[0][2])["mail"]["headers"]


async def test_raw_is_ses_s_json_with_the_signature_of_standard_webhooks() -> None:
    caller = Calls()
    assert isinstance(await carry(caller, one("raw")), Carried)
    ((_, headers, body, _),) = caller.calls
    must_fit("notification", body.decode())
    wanted = signed_headers(
        SECRET, webhook_id=headers["webhook-id"], at=MovableClock().now(), body=body
    )
    assert headers == dict(wanted)


async def test_another_try_has_the_same_ids() -> None:
    caller = Calls(HttpAnswer(500, None, ""), HttpAnswer(500, None, ""))
    for subscription in (one("sns"), one("sns"), one("raw"), one("raw")):
        await carry(caller, subscription)
    ids = [
        headers.get("webhook-id") or headers["x-amz-sns-message-id"]
        for _, headers, _, _ in caller.calls
    ]
    assert len(set(ids)) == 2
    assert caller.calls[0][2] == caller.calls[1][2]


async def test_listmonk_gets_a_call_for_each_recipient() -> None:
    event = replace(BOUNCE, recipients=(*BOUNCE.recipients, EventRecipient("b@example.net")))
    caller = Calls()
    assert isinstance(await carry(caller, one("listmonk"), event=event), Carried)
    emails = [json.loads(body)["email"] for _, _, body, _ in caller.calls]
    assert emails == ["nobody@example.net", "b@example.net"]
    caller = Calls(HttpAnswer(500, None, ""))
    assert isinstance(await carry(caller, one("listmonk"), event=event), TryAgain)
    assert len(caller.calls) == 1


@pytest.mark.parametrize(
    "known", [(), (one("sns", is_confirmed=False),), (one("email"),)], ids=repr
)
async def test_a_subscription_that_is_gone_is_given_up(
    known: tuple[Subscription, ...],
) -> None:
    caller = Calls()
    assert isinstance(await carry(caller, *known), GivenUp)
    assert caller.calls == []


async def test_a_call_without_an_answer_is_tried_again() -> None:
    caller = Calls(CallError("no answer within 5 s"))
    assert await carry(caller, one("sns")) == TryAgain("no answer within 5 s")


async def test_without_a_public_url_sns_s_envelopes_wait() -> None:
    result = await carry(Calls(), one("sns"), has_url=False)
    assert isinstance(result, TryAgain)
    assert "base_url" in result.problem


async def test_a_test_of_a_topic_is_a_notification_with_its_own_words() -> None:
    caller = Calls()
    notice = replace(BOUNCE, detail=NoticeDetail("A subject", "Successfully validated."))
    assert isinstance(await carry(caller, one("sns"), event=notice, form="notice"), Carried)
    ((_, _, octets, _),) = caller.calls
    body = json.loads(octets)
    must_fit("sns", octets.decode())
    assert (body["Type"], body["Message"], body["Subject"]) == (
        *("Notification", "Successfully validated.", "A subject"),
    )
    raw = await carry(
        caller, one("raw"), event=replace(BOUNCE, detail=NoticeDetail("", "{}")), form="notice"
    )
    assert isinstance(raw, Carried)
    assert caller.calls[1][2] == b"{}"


async def test_a_subscription_that_was_ended_gets_the_token_that_restores_it() -> None:
    caller = Calls()
    detail = NoticeDetail("", "You have chosen to deactivate", Secret("ab" * 32))
    notice = replace(BOUNCE, detail=detail)
    ended = one("sns", is_confirmed=False)
    assert isinstance(await carry(caller, ended, event=notice, form="notice"), Carried)
    ((_, headers, octets, _),) = caller.calls
    must_fit("sns", octets.decode())
    body = json.loads(octets)
    assert (body["Type"], body["Token"]) == ("UnsubscribeConfirmation", "ab" * 32)
    assert body["SubscribeURL"].endswith(f"&Token={'ab' * 32}")
    assert "UnsubscribeURL" not in body
    assert headers["x-amz-sns-message-type"] == "UnsubscribeConfirmation"
    tested = await carry(
        caller, ended, event=replace(BOUNCE, detail=replace(detail, token=None)), form="notice"
    )
    assert isinstance(tested, GivenUp)
