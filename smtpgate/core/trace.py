"""What the gate adds to a message and takes from it: trace fields, Date, Message-ID, Bcc."""

import re
from datetime import datetime
from typing import Final

from smtpgate.core.envelope import Client
from smtpgate.core.headers import Field, HeaderBlock

__all__ = ["complete", "received_field"]

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.:\[\]-]")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def _date(now: datetime) -> str:
    """RFC 5322 §3.3, whatever the locale."""
    zone = now.strftime("%z") or "+0000"
    day, month = _DAYS[now.weekday()], _MONTHS[now.month - 1]
    return f"{day}, {now.day:02} {month} {now.year:04} {now:%H:%M:%S} {zone}"


def complete(
    block: HeaderBlock, *, message_id: str, hostname: str, now: datetime
) -> HeaderBlock:
    """Date and Message-ID where they are missing (RFC 6409 §8); without Bcc and Return-Path."""
    fields = block.without((b"bcc", b"return-path")).fields
    names = {field.name for field in fields}
    if b"date" not in names:
        fields += (Field(b"date", f"Date: {_date(now)}\r\n".encode("ascii")),)
    if b"message-id" not in names:
        raw = f"Message-ID: <{message_id}@{hostname}>\r\n".encode("ascii")
        fields += (Field(b"message-id", raw),)
    return HeaderBlock(fields)


def received_field(
    client: Client, *, hostname: str, message_id: str, now: datetime, mask_client: bool
) -> Field:
    """The Received field (RFC 5321 §4.4, RFC 3848). It names no recipient: some may be Bcc."""
    helo = _UNSAFE.sub("?", client.helo) or "unknown"
    origin = "from localhost" if mask_client else f"from {helo} ([{_literal(client.address)}])"
    protocol = f"with {client.protocol} id {message_id}"
    raw = f"Received: {origin}\r\n\tby {hostname} {protocol};\r\n\t{_date(now)}\r\n"
    return Field(b"received", raw.encode("ascii"))


def _literal(address: str) -> str:
    """An address literal's inside (RFC 5321 §4.1.3)."""
    safe = _UNSAFE.sub("?", address)
    return f"IPv6:{safe}" if ":" in safe else safe
