"""The automatic answer of a simulated mailbox whose owner is away (RFC 3834).

It comes from the gate itself: nobody may write as the domain of the simulator.
"""

from typing import Final

from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message.trace import date_text
from smtpgate.core.outbox.task import Task

# A field of one line, of 998 octets at most (RFC 5322 §2.1.1), with no need of SMTPUTF8.
_MAX_ID: Final = 900
_BODY: Final = """\
This is the mailbox simulator of the mail gateway at {host}.

The mailbox {address} answers each message like this. Your message
{message_id} was sent nowhere.
"""


def answer_of(task: Task, hostname: str) -> tuple[HeaderBlock, bytes]:
    """The header block and the body of the answer to the message of a task's event."""
    event = task.event
    (recipient,) = event.recipients
    fields = {
        "Date": date_text(event.at),
        "From": f"Mailbox simulator <MAILER-DAEMON@{hostname}>",
        "To": f"<{task.destination.name}>",
        "Subject": "Automatic answer: away until Monday",
        "Message-ID": f"<{event.id}.answer@{hostname}>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "8bit",
    }
    answered = dict(reversed(event.mail.headers or ())).get("Message-ID")
    if answered is not None and answered.isascii() and len(answered) <= _MAX_ID:
        fields["In-Reply-To"] = answered
    block = HeaderBlock(
        tuple(
            Field(name.lower().encode(), f"{name}: {value}\r\n".encode())
            for name, value in fields.items()
        )
    )
    text = _BODY.format(
        host=hostname, address=recipient.address, message_id=event.mail.message_id
    )
    return block, text.replace("\n", "\r\n").encode()
