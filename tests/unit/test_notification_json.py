import json
from email import message_from_bytes, policy
from typing import Any, Final

import pytest
from msgspec.structs import replace

from smtpgate.core.feedback.kinds import MAILBOX_FULL, UNDETERMINED
from smtpgate.core.notification.listmonk import listmonk_form
from smtpgate.core.notification.mail import mailboxes
from smtpgate.core.notification.mail_text import mail_of_notification
from smtpgate.core.notification.ses_json import (
    event_json,
    notification_json,
    topic_test_json,
)
from smtpgate.core.outbox.event import BounceDetail, SendingEvent
from smtpgate.core.outbox.task import Destination, DestinationForm, Task
from tests.support.cases import load_cases
from tests.support.notifications import (
    BOUNCE,
    COMPLAINT,
    DELIVERY,
    EVENTS,
    MAIL,
    NOTIFIED,
    SEND,
    must_fit,
)
from tests.support.rows import rows
from tests.support.world import OWNER

EXAMPLES = load_cases("notification/10-json.toml")
BY_KIND = {event.kind: event for event in EVENTS}


@rows("case", EXAMPLES, ids=lambda case: case["note"])
def test_the_json_is_that_of_ses_in_its_order(case: dict[str, Any]) -> None:
    event = BY_KIND[case["kind"]]
    if case["form"] == "event":
        text = event_json(event)
        assert text.endswith("}\n")
    else:
        text = notification_json(event, with_headers=case["form"] == "with-headers")
        assert text.endswith("}")
    wanted = json.loads(case["json"])
    assert json.loads(text) == wanted
    # Python keeps the order of the members.
    assert json.dumps(json.loads(text)) == json.dumps(wanted)


@pytest.mark.parametrize("event", EVENTS, ids=lambda one: one.kind)
def test_events_fit_their_schema(event: SendingEvent) -> None:
    must_fit("event", event_json(event))


@pytest.mark.parametrize("with_headers", [False, True])
@pytest.mark.parametrize("event", NOTIFIED, ids=lambda one: one.kind)
def test_notifications_fit_their_schema(event: SendingEvent, with_headers: bool) -> None:
    must_fit("notification", notification_json(event, with_headers=with_headers))


def test_the_test_of_a_topic_fits_the_schema_of_notifications() -> None:
    must_fit("notification", topic_test_json())


def test_a_fact_that_is_not_known_is_left_out() -> None:
    bare = replace(BOUNCE, detail=BounceDetail(UNDETERMINED))
    shown = json.loads(notification_json(bare, with_headers=False))["bounce"]
    assert "reportingMTA" not in shown
    assert "remoteMtaIp" not in shown


def test_a_tag_of_the_sender_does_not_replace_one_of_ses() -> None:
    tags = json.loads(event_json(DELIVERY))["mail"]["tags"]
    assert tags["ses:operation"] == ["SendRawEmail"]
    assert tags["campaign"] == ["a", "b"]


def test_the_message_id_stands_in_for_a_missing_one() -> None:
    bare = replace(COMPLAINT, mail=replace(MAIL, headers=()))
    shown = json.loads(event_json(bare))["mail"]
    assert shown["headers"] == []
    assert not shown["headersTruncated"]
    assert shown["commonHeaders"] == {"messageId": MAIL.message_id}
    assert "ses:from-domain" not in shown["tags"]


def test_headers_that_are_not_known_any_more_are_cut() -> None:
    shown = json.loads(event_json(replace(SEND, mail=replace(MAIL, headers=None))))["mail"]
    assert shown["headersTruncated"]
    assert shown["headers"] == []


_LISTS: Final = {
    "a@example.com": ["a@example.com"],
    '"A, B" <a@example.com>,b@example.com': ['"A, B" <a@example.com>', "b@example.com"],
    "a@example.com (x, y), , b@example.com": ["a@example.com (x, y)", "b@example.com"],
    '"never closed, a@example.com': ['"never closed, a@example.com'],
    r'"q\", x" <a@example.com>, b': [r'"q\", x" <a@example.com>', "b"],
    "(never closed, x": ["(never closed, x"],
    "": [],
}


@rows("written, parts", _LISTS.items(), ids=repr)
def test_a_list_is_cut_at_its_commas(written: str, parts: list[str]) -> None:
    assert mailboxes(written) == parts


def test_a_hostile_list_is_cut_in_linear_time() -> None:
    assert len(mailboxes('"' * 20_001)) == 1
    assert len(mailboxes("(" * 20_000)) == 1
    assert len(mailboxes('(",' * 20_000)) == 1


def test_listmonk_gets_a_form_for_a_recipient_of_a_bounce_or_complaint() -> None:
    shown = json.loads(listmonk_form(BOUNCE, BOUNCE.recipients[0]))
    meta = shown.pop("meta")
    assert meta["notificationType"] == "Bounce"
    assert shown == {
        "subscriber_uuid": "s-1",
        "campaign_uuid": "c-1",
        "email": "nobody@example.net",
        "source": "smtpgate",
        "type": "hard",
    }
    soft = replace(BOUNCE, detail=BounceDetail(MAILBOX_FULL))
    assert json.loads(listmonk_form(soft, soft.recipients[0]))["type"] == "soft"
    complaint = json.loads(listmonk_form(COMPLAINT, COMPLAINT.recipients[0]))
    assert (complaint["type"], complaint["email"]) == ("complaint", "r@example.net")


def test_listmonk_has_no_form_for_other_events() -> None:
    with pytest.raises(ValueError, match="kind Send"):
        listmonk_form(SEND, SEND.recipients[0])


@rows("form", ["event", "notification", "notification-with-headers"])
def test_a_mail_says_in_words_what_its_json_says(form: DestinationForm) -> None:
    destination = Destination("mail", "ops@example.com", OWNER, form)
    block, body = mail_of_notification(Task(BOUNCE, destination), "gate.example.com")
    message = message_from_bytes(
        b"".join([*block.raw_parts, b"\r\n", body]), policy=policy.default
    )
    assert message["Subject"] == "Notification: Bounce"
    assert message["To"] == "ops@example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    words = message.get_content().replace("\r\n", "\n")
    assert words.startswith(f"Bounce: message {MAIL.message_id}\n")
    assert "\nto nobody@example.net\n" in words
    document = (
        event_json(BOUNCE)
        if form == "event"
        else notification_json(BOUNCE, with_headers=form == "notification-with-headers")
    )
    assert document.strip() in words
