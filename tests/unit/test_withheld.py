"""Recipients that an accepted message is not sent to, and those that it was relayed to."""

from datetime import timedelta
from email import message_from_bytes
from typing import Final

from msgspec.structs import replace

from smtpgate.core.address import Mailbox
from smtpgate.core.feedback.simulator import SIMULATIONS
from smtpgate.core.history.event_counts import EventCounts, sums_of
from smtpgate.core.limits import Reservation
from smtpgate.core.message.envelope import Notify, Recipient, Unrendered
from smtpgate.core.outbox.event import DelayDetail, SendDetail, SendingEvent
from smtpgate.core.outbox.relayed import relayed, wanting_success
from smtpgate.core.outbox.report import report_of
from smtpgate.core.outbox.task import Destination, Task
from smtpgate.core.reply import Reply
from smtpgate.core.suppression.withheld import Withheld, withheld_events
from smtpgate.core.upstream.delivery import Answered, RecipientReply
from tests.support.events import AT, done
from tests.support.outbox import event_about
from tests.support.rows import rows

_EVENT: Final = event_about(done(recipients=4))
_JANES: Final = tuple(Mailbox(f"jane{number}", "example.net") for number in range(4))
_FAILURE: Final = Unrendered("spring", "Attribute 'name' is not present in the data.")


def events_of(*withheld: Withheld) -> list[SendingEvent]:
    """The events of recipients."""
    return list(withheld_events(_EVENT.mail, (), withheld, AT, "gate.example.com"))


@rows(
    "withheld, outcome, kinds",
    [
        (Withheld(_JANES[0]), "suppressed", ["Bounce"]),
        (Withheld(_JANES[0], SIMULATIONS["success"]), "simulated delivery", ["Delivery"]),
        (Withheld(_JANES[0], SIMULATIONS["bounce"]), "simulated bounce", ["Bounce"]),
        (
            Withheld(_JANES[0], SIMULATIONS["complaint"]),
            "simulated complaint",
            ["Delivery", "Complaint"],
        ),
        (Withheld(_JANES[0], SIMULATIONS["ooto"]), "simulated answer", ["Delivery"]),
        (Withheld(_JANES[0], None, _FAILURE), "not rendered", ["RenderingFailure"]),
    ],
)
def test_a_recipient_has_the_outcome_that_its_events_report(
    withheld: Withheld, outcome: str, kinds: list[str]
) -> None:
    assert withheld.outcome == outcome
    assert [one.kind for one in events_of(withheld)] == kinds


def test_a_message_that_could_not_be_rendered_has_one_event_and_counts_for_nothing() -> None:
    (event,) = events_of(*(Withheld(one, None, _FAILURE) for one in _JANES))
    assert [one.address for one in event.recipients] == [one.text for one in _JANES]
    assert (event.detail.template_name, event.detail.error_message) == (  # type: ignore[union-attr]
        _FAILURE.template,
        _FAILURE.problem,
    )
    assert sums_of([event]) == EventCounts(uncounted=4)


def test_a_submission_is_relayed_to_the_others() -> None:
    event = done(recipients=4)
    assert (event.simulated, [one.mailbox for one in event.relayed]) == (0, [*_JANES])
    event.withheld = (
        Withheld(_JANES[1]),
        Withheld(_JANES[3], SIMULATIONS["success"]),
    )
    assert (event.simulated, [one.mailbox for one in event.relayed]) == (
        1,
        [_JANES[0], _JANES[2]],
    )


def test_recipients_of_the_simulator_stay_counted_for_the_rate_alone() -> None:
    reservation = Reservation(1, 3, AT, (), ())
    simulated = reservation.with_only_rate(2)
    assert (simulated.only_rate, reservation.only_rate) == (2, 0)


# -- reports of what was relayed (RFC 3461 §5.2.2) ---------------------------------------------


def test_those_that_the_server_took_are_reported_as_relayed_to_a_sender_that_asked() -> None:
    ok, gone = Reply(250, "2.1.5", "Ok"), Reply(550, "5.1.1", "no such user")
    asked: frozenset[Notify] = frozenset({"SUCCESS", "FAILURE"})
    recipients = [
        Recipient(_JANES[0], asked, "rfc822;Jane+0@example.org"),
        Recipient(_JANES[1], asked),
        Recipient(_JANES[2], frozenset({"FAILURE"})),
        Recipient(_JANES[3]),
    ]
    replies = [
        RecipientReply(one, reply)
        for one, reply in zip(_JANES, (ok, gone, ok, ok), strict=True)
    ]
    wanting = wanting_success(recipients, replies)
    assert [one.mailbox for one in wanting] == [_JANES[0]]
    assert wanting_success(recipients[2:], replies) == ()

    taken = Answered("next", Reply(250, "2.0.0", "queued as 1"), tuple(replies))
    event = relayed(_EVENT.mail, wanting, taken, AT + timedelta(seconds=1))
    assert event.detail == SendDetail()
    assert sums_of([event]) == EventCounts(), "the usage of messages counts it"
    block, body = report_of(Task(event, Destination("mail", event.mail.source)), "g.test")
    status = message_from_bytes(b"".join([*block.raw_parts, b"\r\n", body])).get_payload(1)
    fields = status.get_payload(1)  # type: ignore[union-attr]
    assert dict(fields.items()) == {  # type: ignore[union-attr]
        "Original-Recipient": "rfc822;Jane+0@example.org",
        "Final-Recipient": "rfc822;jane0@example.net",
        "Action": "relayed",
        "Status": "2.0.0",
        "Diagnostic-Code": "smtp; 250 2.0.0 queued as 1",
    }


def test_a_report_has_no_diagnostic_where_none_is_known() -> None:
    (recipient,) = _EVENT.recipients
    event = replace(_EVENT, recipients=(replace(recipient, diagnostic=""),))
    _, body = report_of(Task(event, Destination("mail", event.mail.source)), "g.test")
    assert b"Final-Recipient: rfc822;jane@example.net" in body
    assert b"Diagnostic-Code" not in body


def test_a_delay_counts_as_one() -> None:
    assert sums_of([event_about(done(), DelayDetail())]) == EventCounts(delays=1)
