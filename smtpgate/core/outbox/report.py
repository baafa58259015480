"""Reports by mail about recipients that were refused: delivery status notifications.

RFC 3464 in a multipart/report (RFC 6522), with the header block of the message, of which the
gate keeps no copy. A sender whose address is not ASCII gets the form of RFC 6533, every other
one a report in ASCII. Everything in it follows from its task, so it is the same each time.
"""

import base64
import re
from collections.abc import Iterator
from typing import Final

from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message.trace import date_text
from smtpgate.core.outbox.event import BounceDetail, EventRecipient
from smtpgate.core.outbox.task import Task

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MAX_LINE: Final = 900
_TYPE: Final = 'multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"'
_INTRODUCTION: Final = """\
This is the mail gateway at {host}.

Your message was sent to its other recipients. These did not get it, because the next mail
server refused them for good:
"""


def report_of(task: Task, hostname: str) -> tuple[HeaderBlock, bytes]:
    """The header block and the body of the report about the recipients of a task."""
    is_utf8 = not task.destination.name.isascii()
    event = task.event
    boundary = f"=_{event.id}"
    fields = {
        "Date": date_text(event.at),
        "From": f"Mail Delivery System <MAILER-DAEMON@{hostname}>",
        "To": f"<{task.destination.name}>",
        "Subject": "Undelivered mail: recipients refused",
        "Message-ID": f"<{event.id}@{hostname}>",
        "Auto-Submitted": "auto-replied",  # RFC 3834 §5.1
        "MIME-Version": "1.0",
        "Content-Type": _TYPE.format(boundary=boundary),
    }
    if is_utf8:
        fields["Content-Transfer-Encoding"] = "8bit"
    block = HeaderBlock(
        tuple(
            Field(name.lower().encode(), f"{name}: {value}\r\n".encode())
            for name, value in fields.items()
        )
    )
    parts = (_words(task, hostname), _status(task, hostname, is_utf8=is_utf8), _original(task))
    delimiter = f"--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return block, body + delimiter + b"--\r\n"


def _words(task: Task, hostname: str) -> bytes:
    """The part for people."""
    lines = _INTRODUCTION.format(host=hostname).split("\n")
    for one in task.event.recipients:
        lines += [
            f"<{_line(one.address)}>:",
            f"    {_line(one.diagnostic).removeprefix('smtp; ')}",
        ]
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
