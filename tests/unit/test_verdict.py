from smtpgate.core.address import Mailbox
from smtpgate.core.reply import Reject, Reply
from smtpgate.core.upstream import Answered, RecipientReply
from smtpgate.core.upstream.verdict import refusal_of, worded
from tests.support.rows import rows

OK = Reply(250, "2.1.5", "Ok")
GONE = Reply(550, "5.1.1", "no such user")
BUSY = Reply(450, "4.2.0", "mailbox busy")
TAKEN = Reply(250, "2.0.0", "queued")


def delivery(final: Reply, *replies: Reply) -> Answered:
    recipients = tuple(
        RecipientReply(Mailbox(f"r{number}", "example.net"), reply)
        for number, reply in enumerate(replies)
    )
    return Answered("upstream.example", final, recipients)


@rows(
    "came_to, code, reason",
    [
        (delivery(Reply(550, "5.7.1", "not you"), OK), "550 5.7.1 not you", "upstream-reply"),
        (delivery(Reply(452, "4.3.1", "full"), OK, OK), "452 4.3.1 full", "upstream-reply"),
        (delivery(GONE, GONE), "550 5.1.1 no such user", "upstream-reply"),
        (delivery(BUSY, BUSY), "450 4.2.0 mailbox busy", "upstream-reply"),
        (delivery(GONE, GONE, GONE), "550 5.1.1 no such user", "upstream-reply"),
        (delivery(GONE, OK, GONE), "451 4.5.0", "recipients-refused"),
        (delivery(BUSY, OK, BUSY), "451 4.5.0", "recipients-deferred"),
        (delivery(GONE, GONE, BUSY), "451 4.5.0", "recipients-deferred"),
    ],
)
def test_what_the_reply_for_each_outcome(came_to: Answered, code: str, reason: str) -> None:
    refusal = refusal_of(came_to)
    assert refusal is not None
    assert str(refusal.reply).startswith(code)
    assert refusal.reason == reason


def test_an_accepted_message_is_no_refusal() -> None:
    assert refusal_of(delivery(TAKEN, OK, OK)) is None


def test_the_refused_recipients_are_named_and_the_accepted_are_not() -> None:
    refusal = refusal_of(delivery(GONE, OK, GONE, OK))
    assert refusal is not None
    assert "<r1@example.net> (550 5.1.1 no such user)" in refusal.reply.text
    assert "r0@" not in refusal.reply.text


def test_of_many_refused_recipients_some_are_named_and_the_rest_counted() -> None:
    refusal = refusal_of(delivery(GONE, OK, *[GONE] * 30))
    assert refusal is not None
    assert refusal.reply.text.count("@example.net") == 5
    assert refusal.reply.text.count(" and 25 more. ") == 1


def test_a_refusal_ends_in_reason_detail_and_message_id() -> None:
    refusal = Reject(Reply(554, "5.7.1", "Access denied"), "implicit-deny", "no statement fits")
    reply = worded(refusal, "0100-id")
    assert str(reply) == "554 5.7.1 Access denied (implicit-deny: no statement fits; 0100-id)"
    long = Reject(Reply(554, "5.7.1", "Access denied"), "implicit-deny", "x" * 5000)
    assert len(worded(long, "0100-id").text) < 400
