"""The recipient limit of a server, and the reply to a client's next try."""

from smtpgate.core.address import Mailbox
from smtpgate.core.reply import Reply
from smtpgate.core.upstream import Answered, RecipientReply, recipient_limit
from smtpgate.core.upstream.verdict import answers_at_next_try, refusal_of
from tests.support.rows import rows

OK = Reply(250, "2.1.5", "Ok")
GONE = Reply(550, "5.1.1", "no such user")
BUSY = Reply(450, "4.2.0", "mailbox busy")
FULL = Reply(452, "4.2.2", "mailbox full")
BARE_FULL = Reply(452, "4.0.0", "insufficient system storage")
MANY = Reply(452, "4.5.3", "too many recipients")
BARE_MANY = Reply(452, "4.0.0", "Too many recipients received this hour")
OLD_MANY = Reply(552, "5.5.3", "too much")
OLD_FULL = Reply(552, "5.2.2", "mailbox full")


def delivery(*replies: Reply) -> Answered:
    refused = [reply for reply in replies if not reply.is_positive]
    entries = tuple(
        RecipientReply(Mailbox(f"r{number}", "example.net"), reply)
        for number, reply in enumerate(replies)
    )
    return Answered("default", refused[0] if refused else OK, entries)


@rows(
    "replies, limit",
    [
        ([OK, OK, MANY], 2),
        ([OK, OK, MANY, MANY, MANY], 2),
        ([OK, OLD_MANY, OLD_MANY], 1),
        ([OK, OK, BARE_MANY], 2),
        ([OK, GONE, OK, MANY], 2),  # only the accepted ones count
        ([OK, BUSY, MANY, BUSY], 1),
        ([MANY, MANY], None),  # a limit of none would be no limit
        ([OK, MANY, OK], None),
        ([OK, FULL], None),
        ([OK, BARE_FULL], None),
        ([OK, OLD_FULL], None),
        ([OK, OK], None),
        ([GONE, BUSY], None),
    ],
)
def test_a_limit_is_seen_where_all_later_recipients_were_too_many(
    replies: list[Reply], limit: int | None
) -> None:
    assert recipient_limit(delivery(*replies)) == limit


def test_a_recipient_beyond_the_limit_is_not_refused_itself() -> None:
    came_to = delivery(OK, GONE, BUSY, MANY, OLD_MANY)
    assert [
        (str(mailbox), reply)
        for mailbox, reply in answers_at_next_try(came_to, only_deferred=False)
    ] == [
        ("r1@example.net", GONE),
        ("r2@example.net", BUSY),
    ]


def test_too_many_recipients_are_deferred_whatever_code_the_server_used() -> None:
    for many in (MANY, OLD_MANY, BARE_MANY):
        refusal = refusal_of(delivery(OK, many, many))
        assert refusal is not None
        assert refusal.reply.is_transient


def test_nothing_is_remembered_where_the_reply_was_passed_on() -> None:
    assert not answers_at_next_try(delivery(BUSY), only_deferred=False)
