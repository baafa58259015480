"""Mail to people: of a subscription by address, with SES's JSON; and notices of the gate."""

import base64
from typing import Final

from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message.trace import date_text
from smtpgate.core.notification.ses_json import event_json, notification_json
from smtpgate.core.outbox.event import NoticeDetail
from smtpgate.core.outbox.task import Task

_TEXT: Final = """\
{kind}: message {message_id}
sent by account {account} with {identity}
to {recipients}

{json}

This mail was sent because the address is subscribed to a topic of the mail gateway {hostname}.
"""
_MAX_SHOWN: Final = 20


def mail_of_notification(task: Task, hostname: str) -> tuple[HeaderBlock, bytes]:
    """The header block and the body of the mail about a task's event."""
    event, form = task.event, task.destination.form
    if isinstance(event.detail, NoticeDetail):
        subject = event.detail.subject or "Notification: topic"
        return _mail(task, hostname, "Mail gateway", subject, event.detail.text)
    if form == "event":
        document = event_json(event)
    else:
        document = notification_json(event, with_headers=form == "notification-with-headers")
    shown = [one.address for one in event.recipients[:_MAX_SHOWN]]
    text = _TEXT.format(
        kind=event.kind,
        message_id=event.mail.message_id,
        account=event.mail.account_id,
        identity=event.mail.identity,
        recipients=", ".join(shown),
        json=document.strip(),
        hostname=hostname,
    )
    return _mail(task, hostname, "Mail notifications", f"Notification: {event.kind}", text)


def _mail(
    task: Task, hostname: str, sender: str, subject: str, text: str
) -> tuple[HeaderBlock, bytes]:
    fields = {
        "Date": date_text(task.event.at),
        "From": f"{sender} <MAILER-DAEMON@{hostname}>",
        "To": f"<{task.destination.name}>",
        "Subject": subject,
        "Message-ID": f"<{task.id}@{hostname}>",
        "Auto-Submitted": "auto-generated",  # RFC 3834 §5
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "base64",
    }
    block = HeaderBlock(
        tuple(
            Field(name.lower().encode(), f"{name}: {value}\r\n".encode())
            for name, value in fields.items()
        )
    )
    octets = text.replace("\n", "\r\n").encode()
    return block, base64.encodebytes(octets).replace(b"\n", b"\r\n")
