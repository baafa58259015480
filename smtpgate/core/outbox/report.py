"""Reports by mail about recipients: delivery status notifications, and complaints.

RFC 3464 and RFC 5965 in a multipart/report (RFC 6522), with the header block of the message, of
which the gate keeps no copy. A sender whose address is not ASCII gets the form of RFC 6533,
every other one a report in ASCII. Everything in it follows from its task, so it is the same
each time.
"""

import base64
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from smtpgate.core.feedback.kinds import ON_ACCOUNT_LIST
from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message.trace import date_text
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    EventRecipient,
    SendDetail,
    SendingEvent,
)
from smtpgate.core.outbox.task import Task

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MAX_LINE: Final = 900
_TYPE: Final = 'multipart/report; report-type={type};\r\n\tboundary="{boundary}"'
_TYPE_OF_CODE: Final = re.compile(r"^(smtp|x-[a-z-]+); ")  # RFC 3464 §2.3.6


class _Form(NamedTuple):
    """The form of a report: its type (RFC 6522 §3), its subject, and its words for people."""

    type: str
    subject: str
    words: str


_REFUSED: Final = _Form(
    "delivery-status",
    "Undelivered mail: recipients refused",
    """\
Your message was sent to its other recipients. These did not get it, because the next mail
server refused them for good:
""",
)
_SUPPRESSED: Final = _Form(
    "delivery-status",
    "Undelivered mail: recipients suppressed",
    """\
Your message was sent to its other recipients, if it has any. It was not sent to these:
""",
)
_SIMULATED: Final = _Form(
    "delivery-status",
    "Undelivered mail: simulated bounce",
    """\
These recipients are of the mailbox simulator, so your message was not sent to them:
""",
)
_RELAYED: Final = _Form(
    "delivery-status",
    "Relayed mail: no report of its delivery will follow",
    """\
Your message was accepted by the next mail server for these recipients. That server sends no
reports of deliveries, so this is all that will be known, unless the delivery fails:
""",
)
_COMPLAINT: Final = _Form(
    "feedback-report",
    "Complaint about your message",
    """\
Your message was reported as unwanted. It was sent to:
""",
)


def report_of(task: Task, hostname: str) -> tuple[HeaderBlock, bytes]:
    """The header block and the body of the report about the recipients of a task."""
    is_utf8 = not task.destination.name.isascii()
    event, form = task.event, _form_of(task.event)
    boundary = f"=_{event.id}"
    fields = {
        "Date": date_text(event.at),
        "From": f"Mail Delivery System <MAILER-DAEMON@{hostname}>",
        "To": f"<{task.destination.name}>",
        "Subject": form.subject,
        "Message-ID": f"<{event.id}@{hostname}>",
        "Auto-Submitted": "auto-replied",  # RFC 3834 §5.1
        "MIME-Version": "1.0",
        "Content-Type": _TYPE.format(type=form.type, boundary=boundary),
    }
    if is_utf8:
        fields["Content-Transfer-Encoding"] = "8bit"
    block = HeaderBlock(
        tuple(
            Field(name.lower().encode(), f"{name}: {value}\r\n".encode())
            for name, value in fields.items()
        )
    )
    for_programs = (
        _complaint(event, event.detail)
        if isinstance(event.detail, ComplaintDetail)
        else _status(task, hostname, is_utf8=is_utf8)
    )
    parts = (_words(task, form, hostname), for_programs, _original(task))
    delimiter = f"--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return block, body + delimiter + b"--\r\n"


def _form_of(event: SendingEvent) -> _Form:
    detail = event.detail
    if isinstance(detail, ComplaintDetail):
        return _COMPLAINT
    if isinstance(detail, SendDetail):
        return _RELAYED
    if event.is_simulated:
        return _SIMULATED
    is_listed = isinstance(detail, BounceDetail) and detail.bounce == ON_ACCOUNT_LIST
    return _SUPPRESSED if is_listed else _REFUSED


def _words(task: Task, form: _Form, hostname: str) -> bytes:
    """The part for people."""
    lines = [f"This is the mail gateway at {hostname}.", "", *form.words.split("\n")]
    for one in task.event.recipients:
        diagnostic = _TYPE_OF_CODE.sub("", _line(one.diagnostic))
        colon = ":" if diagnostic else ""
        lines += [f"<{_line(one.address)}>{colon}", f"    {diagnostic}".rstrip()]
    text = "\r\n".join([*lines, ""])
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text.encode()
    return _encoded("text/plain; charset=utf-8", text.encode())


def _status(task: Task, hostname: str, *, is_utf8: bool) -> bytes:
    """The part for programs (RFC 3464 §2, RFC 6533 §3)."""
    event, detail = task.event, task.event.detail
    reporting = detail.reporting_mta if isinstance(detail, BounceDetail) else ""
    of_message = [f"Reporting-MTA: {reporting or f'dns; {hostname}'}"]
    if task.envelope_id:
        of_message.append(f"Original-Envelope-Id: {_line(task.envelope_id)}")
    of_message += [
        f"Arrival-Date: {date_text(event.mail.sent_at)}",
        f"X-Smtpgate-Message-Id: {event.mail.message_id}",
    ]
    groups = [
        of_message,
        *(list(_of_recipient(one, is_utf8=is_utf8)) for one in event.recipients),
    ]
    text = "\r\n\r\n".join("\r\n".join(group) for group in groups) + "\r\n"
    if not is_utf8:
        return b"Content-Type: message/delivery-status\r\n\r\n" + text.encode("ascii")
    kind = b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit"
    return kind + b"\r\n\r\n" + text.encode()


def _complaint(event: SendingEvent, detail: ComplaintDetail) -> bytes:
    """The part for programs (RFC 5965 §3)."""
    arrived_at = detail.arrived_at or event.mail.sent_at
    lines = [
        f"Feedback-Type: {detail.feedback_type or 'abuse'}",
        f"User-Agent: {_ascii(_line(detail.user_agent)) or 'smtpgate'}",
        "Version: 1",
        f"Original-Mail-From: <{_ascii(_line(event.mail.source))}>",
        *(f"Original-Rcpt-To: <{_ascii(_line(one.address))}>" for one in event.recipients),
        f"Arrival-Date: {date_text(arrived_at)}",
        f"X-Smtpgate-Message-Id: {event.mail.message_id}",
    ]
    return b"Content-Type: message/feedback-report\r\n\r\n" + (
        "\r\n".join(lines).encode("ascii") + b"\r\n"
    )


def _of_recipient(one: EventRecipient, *, is_utf8: bool) -> Iterator[str]:
    if one.original:
        yield f"Original-Recipient: {_typed(one.original, is_utf8=is_utf8)}"
    yield f"Final-Recipient: {_typed(f'rfc822;{one.address}', is_utf8=is_utf8)}"
    yield f"Action: {one.action or 'failed'}"
    yield f"Status: {one.status or '5.0.0'}"
    diagnostic = _line(one.diagnostic)
    if diagnostic:
        yield f"Diagnostic-Code: {diagnostic if is_utf8 else _ascii(diagnostic)}"


def _typed(typed: str, *, is_utf8: bool) -> str:
    """An address with its type; one that is not ASCII has the type of RFC 6533 §3."""
    kind, _, address = typed.partition(";")
    address = _line(address.strip())
    if address.isascii():
        return f"{kind};{address}"
    return f"utf-8;{address if is_utf8 else _ascii(address)}"


def _ascii(text: str) -> str:
    """The text with EmbeddedUnicodeChar for what is not ASCII (RFC 6533 §3)."""
    return "".join(char if char.isascii() else f"\\x{{{ord(char):X}}}" for char in text)


def _original(task: Task) -> bytes:
    """The header block of the message (RFC 6522 §4, RFC 6533 §4)."""
    if task.original.isascii():
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + task.original
    return _encoded("message/global-headers", task.original)


def _encoded(kind: str, octets: bytes) -> bytes:
    lines = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + lines


def _line(text: str) -> str:
    """A text as a part of one line."""
    return _CONTROLS.sub(" ", text)[:_MAX_LINE]
