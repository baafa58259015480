"""The answer of a simulated mailbox: whatever the message was, its upstream can take it."""

from msgspec import structs

from smtpgate.core.outbox.answer import answer_of
from smtpgate.core.outbox.event import EventRecipient
from smtpgate.core.outbox.task import Destination, Task
from tests.support.notifications import BOUNCE
from tests.support.rows import rows

OOTO = "ooto@simulator.amazonses.com"


@rows(
    "message_id, is_cited",
    [("<a@example.com>", True), ("<\u00fc@example.com>", False), (f"<{'a' * 990}@b>", False)],
    ids=["usual", "not ASCII", "too long for a line"],
)
def test_it_cites_an_id_that_fits_on_a_line_of_ascii(
    message_id: str, *, is_cited: bool
) -> None:
    mail = structs.replace(BOUNCE.mail, headers=(("Message-ID", message_id),))
    event = structs.replace(BOUNCE, mail=mail, recipients=(EventRecipient(OOTO),))
    task = Task(event, Destination("mail", "jane@example.com", form="answer"))
    block, _ = answer_of(task, "mail.example.com")
    assert (b"in-reply-to" in [field.name for field in block.fields]) == is_cited
    assert all(field.raw.isascii() and len(field.raw) <= 1000 for field in block.fields)
