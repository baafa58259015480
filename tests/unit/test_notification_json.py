import json
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from smtpgate.core.message.headers import split_message
from smtpgate.core.notification.details import BounceDetails, EventDetails
from smtpgate.core.notification.listmonk import listmonk_forms
from smtpgate.core.notification.mail import mailboxes, shown_headers
from smtpgate.core.notification.ses_json import (
    event_json,
    notification_json,
    topic_test_json,
)
from tests.support.cases import load_cases
from tests.support.notifications import (
    ALL_DETAILS,
    BOUNCE,
    COMPLAINT,
    DELAY,
    DELIVERY,
    MAIL,
    NOTIFIED,
    must_fit,
)
from tests.support.rows import rows

EXAMPLES = load_cases("notification/10-json.toml")
BY_KIND = {one.kind: one for one in ALL_DETAILS}


@rows("case", EXAMPLES, ids=lambda case: case["note"])
def test_the_json_is_that_of_ses_in_its_order(case: dict[str, Any]) -> None:
    details = BY_KIND[case["kind"]]
    if case["form"] == "event":
        text = event_json(MAIL, details)
        assert text.endswith("}\n")
    else:
        text = notification_json(MAIL, details, with_headers=case["form"] == "with-headers")
        assert text.endswith("}")
    wanted = json.loads(case["json"])
    assert json.loads(text) == wanted
    # Python keeps the order of the members.
    assert json.dumps(json.loads(text)) == json.dumps(wanted)


@pytest.mark.parametrize("details", ALL_DETAILS, ids=lambda one: one.kind)
def test_events_fit_their_schema(details: EventDetails) -> None:
    must_fit("event", event_json(MAIL, details))


@pytest.mark.parametrize("with_headers", [False, True])
@pytest.mark.parametrize("details", NOTIFIED, ids=lambda one: one.kind)
def test_notifications_fit_their_schema(details: EventDetails, with_headers: bool) -> None:
    must_fit("notification", notification_json(MAIL, details, with_headers=with_headers))


def test_the_test_of_a_topic_fits_the_schema_of_notifications() -> None:
    must_fit("notification", topic_test_json())


def test_what_is_not_known_is_left_out() -> None:
    bare = BounceDetails(
        type="Undetermined",
        subtype="Undetermined",
        recipients=BOUNCE.recipients[:1],
        at=BOUNCE.at,
        feedback_id="x",
    )
    shown = json.loads(notification_json(MAIL, bare, with_headers=False))["bounce"]
    assert "reportingMTA" not in shown
    assert "remoteMtaIp" not in shown


def test_a_tag_of_the_sender_does_not_replace_one_of_ses() -> None:
    tags = json.loads(event_json(MAIL, DELIVERY))["mail"]["tags"]
    assert tags["ses:operation"] == ["SendRawEmail"]
    assert tags["campaign"] == ["a", "b"]


def test_the_message_id_stands_in_for_a_missing_one() -> None:
    mail = replace(MAIL, headers=())
    shown = json.loads(event_json(mail, COMPLAINT))["mail"]
    assert shown["headers"] == []
    assert shown["commonHeaders"] == {"messageId": MAIL.message_id}


@dataclass(frozen=True)
class _List:
    written: str
    parts: tuple[str, ...]


_LISTS = (
    _List("a@example.com", ("a@example.com",)),
    _List('"A, B" <a@example.com>,b@example.com', ('"A, B" <a@example.com>', "b@example.com")),
    _List("a@example.com (x, y), , b@example.com", ("a@example.com (x, y)", "b@example.com")),
    _List('"never closed, a@example.com', ('"never closed, a@example.com',)),
    _List(r'"q\", x" <a@example.com>, b', (r'"q\", x" <a@example.com>', "b")),
    _List("(never closed, x", ("(never closed, x",)),
    _List("", ()),
)


@rows("case", _LISTS, ids=lambda case: case.written)
def test_a_list_is_cut_at_its_commas(case: _List) -> None:
    assert tuple(mailboxes(case.written)) == case.parts


def test_a_hostile_list_is_cut_in_linear_time() -> None:
    assert len(mailboxes('"' * 20_001)) == 1
    assert len(mailboxes("(" * 20_000)) == 1
    assert len(mailboxes('(",' * 20_000)) == 1


def test_headers_are_shown_as_they_were_written_and_unfolded() -> None:
    block = split_message(b"SUBJECT: a\r\n b\r\nx-odd: \xff\r\n\r\n").block
    assert shown_headers(block) == ((("SUBJECT", "a b"), ("x-odd", "\ufffd")), False)


def test_headers_of_ten_kilobytes_are_cut() -> None:
    lines = b"".join(b"X-%03d: %s\r\n" % (number, b"y" * 91) for number in range(200))
    shown, truncated = shown_headers(split_message(lines + b"\r\n").block)
    assert truncated
    assert len(shown) == 102  # of 100 octets each; 102 of them are less than 10,240


def test_listmonk_gets_a_form_for_each_recipient_of_bounces_and_complaints() -> None:
    (form,) = listmonk_forms(MAIL, BOUNCE)
    shown = json.loads(form)
    meta = shown.pop("meta")
    assert meta["notificationType"] == "Bounce"
    assert shown == {
        "subscriber_uuid": "s-1",
        "campaign_uuid": "c-1",
        "email": "nobody@example.net",
        "source": "smtpgate",
        "type": "hard",
    }
    soft = replace(BOUNCE, type="Transient")
    assert [json.loads(one)["type"] for one in listmonk_forms(MAIL, soft)] == ["soft"]
    assert [json.loads(one)["type"] for one in listmonk_forms(MAIL, COMPLAINT)] == ["complaint"]
    assert listmonk_forms(MAIL, DELIVERY) == listmonk_forms(MAIL, DELAY) == ()
