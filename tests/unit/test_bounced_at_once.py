"""The recipients that bounced because the upstream refused a whole message for them."""

from typing import Final

from smtpgate.core.address import Mailbox
from smtpgate.core.reply import Reply
from smtpgate.core.upstream import Answered, Delivery, InDoubt, NotSent, RecipientReply
from smtpgate.core.upstream.verdict import bounced_at_once, refusal_of
from tests.support.rows import rows

OK: Final = Reply(250, "2.1.5", "Ok")
GONE: Final = Reply(550, "5.1.1", "No such user")
BUSY: Final = Reply(450, "4.2.0", "Later")
TOO_MANY: Final = Reply(552, "5.5.3", "Too many recipients")
SPAM: Final = Reply(554, "5.7.1", "Looks like spam")


def to(*replies: Reply) -> tuple[RecipientReply, ...]:
    return tuple(
        RecipientReply(Mailbox(f"a{at}", "example.net"), one) for at, one in enumerate(replies)
    )


CASES: Final[dict[str, tuple[Delivery, tuple[Reply, ...]]]] = {
    "a lone recipient at RCPT": (Answered("up", GONE, to(GONE)), (GONE,)),
    "all recipients at RCPT": (Answered("up", GONE, to(GONE, SPAM)), (GONE, SPAM)),
    "the message to a lone recipient": (Answered("up", SPAM, to(OK)), (SPAM,)),
    "the message to several": (Answered("up", SPAM, to(OK, OK)), ()),
    "the rest of a message in part": (
        Answered("up", SPAM, to(OK, GONE), is_in_part=True),
        (GONE, SPAM),
    ),
    "the rest of several in part": (
        Answered("up", SPAM, to(OK, OK, GONE), is_in_part=True),
        (GONE,),
    ),
    "MAIL": (Answered("up", SPAM, ()), ()),
    "a deferral": (Answered("up", BUSY, to(BUSY)), ()),
    "a deferral among refusals": (Answered("up", GONE, to(GONE, BUSY)), ()),
    "some of several": (Answered("up", GONE, to(GONE, OK)), ()),
    "the message later": (Answered("up", BUSY, to(OK)), ()),
    "no verdict": (InDoubt("lost"), ()),
    "nothing sent": (NotSent("upstream-unreachable"), ()),
}


@rows("delivery, bounced", CASES.values(), ids=CASES)
def test_a_bounce_follows_from_a_refusal_for_good_of_a_recipient(
    delivery: Delivery, bounced: tuple[Reply, ...]
) -> None:
    refusal = refusal_of(delivery)
    assert refusal is not None
    assert tuple(one.reply for one in bounced_at_once(delivery, refusal)) == bounced
