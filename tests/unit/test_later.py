"""The events of a message and their notifications in words, and who sees which of them."""

from datetime import datetime, timedelta
from typing import Final

from msgspec import structs

from smtpgate.core.feedback.kinds import MAILBOX_FULL, NO_EMAIL
from smtpgate.core.history.kept_event import KeptEvent
from smtpgate.core.history.later import Later, Notice, event_lines, notice_lines, seen_later
from smtpgate.core.history.story import story_of
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    Detail,
    EventRecipient,
    RejectDetail,
    RenderingFailureDetail,
)
from tests.support.events import AT, done
from tests.support.records import submission_record
from tests.support.rows import rows
from tests.support.world import DELEGATE, IDENTITY, OWNER

RECORD: Final = submission_record(done(), keep_recipients=True, keep_subject=False)
JANE: Final = EventRecipient(
    "jane@example.net", "failed", "5.1.1", "smtp; 550 5.1.1 <jane@example.net> unknown"
)


def kept(detail: Detail, *recipients: EventRecipient, **more: object) -> KeptEvent:
    event = KeptEvent(
        id="0100-2",
        message_id=RECORD.id,
        kind="Bounce",
        at=AT + timedelta(minutes=5),
        account_id=DELEGATE,
        access_key="AKIAIOSFODNN7EXAMPLE",
        identity=IDENTITY,
        owner_id=OWNER,
        configuration_set="news",
        number=len(recipients or (JANE,)),
        recipients=recipients or (JANE,),
        detail=detail,
    )
    return structs.replace(event, **more)


def notice(account_id: str = OWNER, **more: object) -> Notice:
    made = Notice(
        task_id="1",
        event_id="0100-2",
        kind="Bounce",
        recipients=("jane@example.net",),
        destination_kind="webhook",
        destination="arn:aws:sns:us-east-1:888888888888:bounces:1",
        account_id=account_id,
        state="sent",
        due_at=AT,
        done_at=AT + timedelta(minutes=6),
        attempts=1,
        answer="200 OK",
    )
    return structs.replace(made, **more)


UNKNOWN: Final = "    550 5.1.1 <jane@example.net> unknown"
EVENTS: Final[dict[str, tuple[KeptEvent, list[str]]]] = {
    "a bounce": (
        kept(BounceDetail(NO_EMAIL, "dns; mx.example.net")),
        [
            "2026-11-23 10:05:00Z bounced (Permanent, NoEmail): jane@example.net",
            UNKNOWN,
            "    reported by dns; mx.example.net",
        ],
    ),
    "a refusal": (
        kept(BounceDetail(MAILBOX_FULL, is_refusal=True)),
        [
            "2026-11-23 10:05:00Z refused with the message (Transient, MailboxFull): "
            "jane@example.net",
            UNKNOWN,
        ],
    ),
    "a complaint of the simulator": (
        kept(
            ComplaintDetail("", "abuse", "Loop/1.0\nForged: line"),
            EventRecipient("complaint@simulator.amazonses.com"),
            is_simulated=True,
        ),
        [
            "2026-11-23 10:05:00Z complained (abuse), by the mailbox simulator: "
            "complaint@simulator.amazonses.com",
            "    reported by Loop/1.0 Forged: line",
        ],
    ),
    "a delay": (
        kept(
            DelayDetail("MailboxFull", AT + timedelta(days=2), "dns; mx.example.net"),
            EventRecipient("jane@example.net", "delayed", "4.2.2", "smtp; 452 mailbox full"),
        ),
        [
            "2026-11-23 10:05:00Z delayed (MailboxFull): jane@example.net",
            "    4.2.2 452 mailbox full",
            "    reported by dns; mx.example.net",
            "    tried until 2026-11-25 10:00:00Z",
        ],
    ),
    "a delivery": (
        kept(DeliveryDetail(5, "250 2.0.0 Ok"), EventRecipient("jane@example.net")),
        ["2026-11-23 10:05:00Z delivered: jane@example.net", "    250 2.0.0 Ok"],
    ),
    "a rejection": (
        kept(RejectDetail(), EventRecipient("jane@example.net")),
        ["2026-11-23 10:05:00Z rejected (Bad content): jane@example.net"],
    ),
    "a template that did not fit": (
        kept(
            RenderingFailureDetail("no 'name'", "welcome"), EventRecipient("jane@example.net")
        ),
        [
            "2026-11-23 10:05:00Z not sent, because its template could not be rendered: "
            "jane@example.net",
            "    template welcome: no 'name'",
        ],
    ),
    "recipients that are not kept": (
        kept(DeliveryDetail(), EventRecipient(""), EventRecipient("")),
        ["2026-11-23 10:05:00Z delivered: 2 recipients (addresses are not kept)"],
    ),
    "many recipients": (
        kept(
            DeliveryDetail(),
            *(EventRecipient(f"{at}@example.net") for at in range(12)),
            number=150,
        ),
        [
            "2026-11-23 10:05:00Z delivered: "
            + ", ".join(f"{at}@example.net" for at in range(10))
            + " and 140 more"
        ],
    ),
}


@rows("event, lines", EVENTS.values(), ids=EVENTS)
def test_an_event_is_shown_in_words_of_its_kind(event: KeptEvent, lines: list[str]) -> None:
    refused = structs.replace(RECORD, outcome="refused")
    assert [*event_lines(refused, [event])] == lines


def test_an_accepted_message_begins_with_its_hand_over() -> None:
    accepted = structs.replace(RECORD, upstream="default")
    assert [*event_lines(accepted, [])] == [
        "2026-11-23 10:00:00Z handed over to default",
        "No report about it has come back.",
    ]
    first, *_ = event_lines(accepted, [kept(BounceDetail(NO_EMAIL))])
    assert first == "2026-11-23 10:00:00Z handed over to default"


NOTICES: Final[dict[str, tuple[Notice, str]]] = {
    "sent": (notice(), "sent 2026-11-23 10:06:00Z after 1 attempt"),
    "given up": (
        notice(state="dead", attempts=5),
        "given up 2026-11-23 10:06:00Z after 5 attempts",
    ),
    "waiting": (
        notice(state="waiting", done_at=None, attempts=0),
        "waiting, next attempt 2026-11-23 10:00:00Z",
    ),
    "tried": (
        notice(state="waiting", done_at=None, attempts=2),
        "waiting, next attempt 2026-11-23 10:00:00Z after 2 attempts",
    ),
    "noted": (
        notice(state="provisional", done_at=None, attempts=0),
        "noted until the verdict on the message",
    ),
}


@rows("one, state", NOTICES.values(), ids=NOTICES)
def test_a_notification_has_its_state_and_the_last_answer(one: Notice, state: str) -> None:
    to = "arn:aws:sns:us-east-1:888888888888:bounces:1"
    assert [*notice_lines([one])] == [
        f"Bounce of jane@example.net to subscription {to}: {state}",
        "    200 OK",
    ]


def test_the_kind_of_a_destination_has_its_name() -> None:
    for kind, name in (("mail", "mail"), ("list", "suppression list")):
        (line, _) = notice_lines([notice(destination_kind=kind, destination="x")])
        assert line.startswith(f"Bounce of jane@example.net to {name} x: sent ")


def test_each_side_sees_its_own_notifications_and_the_sender_its_own_key() -> None:
    later = Later((kept(BounceDetail(NO_EMAIL)),), (notice(OWNER), notice(DELEGATE)))
    as_owner, as_sender = (seen_later(later, RECORD, account) for account in (OWNER, DELEGATE))
    assert [one.account_id for one in as_owner.notices] == [OWNER]
    assert [one.account_id for one in as_sender.notices] == [DELEGATE]
    assert (as_owner.events[0].access_key, as_owner.events[0].configuration_set) == ("", "")
    assert as_sender.events == later.events


def test_a_story_has_these_parts_only_where_they_are_given() -> None:
    now: datetime = AT + timedelta(hours=1)
    titles = [one.title for one in story_of(RECORD, now).sections]
    later = Later((), (notice(),))
    assert [one.title for one in story_of(RECORD, now, later).sections] == [
        *titles,
        "Events",
        "Notifications",
    ]
    assert [one.title for one in story_of(RECORD, now, Later()).sections][-1] == "Events"
