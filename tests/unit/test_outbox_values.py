"""Sending events and tasks as values: what has the same id, and what is kept of a message."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from smtpgate.core.feedback.kinds import BounceKind
from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message_id import is_beginning
from smtpgate.core.outbox.event import (
    BounceDetail,
    DeliveryDetail,
    Detail,
    EventRecipient,
    SendDetail,
    SendingEvent,
    SentMail,
    sending_event,
)
from smtpgate.core.outbox.mail import _headers
from smtpgate.core.outbox.task import Destination, Task
from tests.support.world import DELEGATE, OWNER

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MAIL = SentMail(
    "0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000",
    AT,
    "news@example.com",
    ("a@example.net", "b@example.net"),
    DELEGATE,
)
BOUNCE = BounceDetail(BounceKind("Permanent", "NoEmail"))
SOFT = BounceDetail(BounceKind("Transient", "General"))
HOOK = Destination("webhook", "arn:aws:sns:us-east-1:888888888888:bounces:1", OWNER)


def event(detail: Detail = BOUNCE, *addresses: str, at: datetime = AT) -> SendingEvent:
    recipients = map(EventRecipient, addresses or ("a@example.net",))
    return sending_event(at, MAIL, recipients, detail)


def test_the_same_fact_has_the_same_ids_whenever_and_wherever_it_is_found() -> None:
    other_words = BounceDetail(BounceKind("Permanent", "General"))
    first, again = event(), event(other_words, at=AT + timedelta(hours=1))
    assert first.id == again.id
    assert Task(first, HOOK).id == Task(again, HOOK, b"From: a@example.com\r\n").id


@pytest.mark.parametrize(
    "other",
    [event(DeliveryDetail()), event(BOUNCE, "b@example.net"), event(SendDetail()), event(SOFT)],
    ids=["another kind", "another recipient", "a kind about the same recipient", "soft"],
)
def test_another_fact_has_other_ids(other: SendingEvent) -> None:
    assert other.id != event().id
    assert Task(other, HOOK).id != Task(event(), HOOK).id


def test_another_destination_is_another_task_of_the_same_event() -> None:
    mail = Destination("mail", HOOK.name)
    assert len({Task(event(), one).id for one in (HOOK, mail)}) == 2


def test_the_order_of_recipients_makes_no_other_event() -> None:
    names = ("a@example.net", "b@example.net")
    assert event(BOUNCE, *names).id == event(BOUNCE, *reversed(names)).id


def test_an_event_id_has_the_shape_of_a_message_id() -> None:
    assert is_beginning(event().id)
    assert len(event().id) == len(MAIL.message_id)


def test_a_task_is_the_same_after_its_storage() -> None:
    task = Task(event(), HOOK, b"Subject: \xe4\r\n", "an id")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=Task) == task


def test_all_mail_waits_in_one_line_and_each_subscription_in_its_own() -> None:
    assert Destination("mail", "a@example.com").lane == Destination("mail", "b@x.test").lane
    assert HOOK.lane == HOOK.name


def test_headers_are_unfolded_in_order_and_cut_where_they_are_too_long() -> None:
    fields = (
        Field(b"subject", b"Subject: a\r\n folded one\r\n"),
        Field(b"x-raw", b"X-Raw: \xff\r\n"),
        Field(b"x-long", b"X-Long: " + b"x" * 10_240 + b"\r\n"),
        Field(b"x-last", b"X-Last: y\r\n"),
    )
    headers, are_cut = _headers(HeaderBlock(fields))
    assert headers == (("Subject", "a folded one"), ("X-Raw", "\\xff"))
    assert are_cut
