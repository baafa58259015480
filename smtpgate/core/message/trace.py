"""The fields that the gate adds and removes: trace fields, Date, Message-ID, Bcc."""

import re
from collections.abc import Iterable
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final

from smtpgate.core.made_once import made_once_with
from smtpgate.core.message.envelope import Client
from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.moments import kept_microseconds

# What a domain or an address literal is made of: nothing that could end a line, a clause or a
# comment of the Received field.
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.:\[\]-]")
_REMOVED: Final = frozenset({b"bcc", b"resent-bcc", b"return-path"})
_MAX_HELO: Final = 255  # RFC 5321 §4.5.3.1.2
_MAX_LINE: Final = 78  # RFC 5322 §2.1.1
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def date_text(now: datetime) -> str:
    """The date as in RFC 5322 §3.3, in every locale."""
    return _date_of_second(kept_microseconds(now) // 1_000_000, now.tzinfo)


@lru_cache(maxsize=2)  # the messages of one second share it
def _date_of_second(second: int, zone: tzinfo | None) -> str:
    now = datetime.fromtimestamp(second, zone)
    offset = now.strftime("%z") or "+0000"
    day, month = _DAYS[now.weekday()], _MONTHS[now.month - 1]
    return f"{day}, {now.day:02} {month} {now.year:04} {now:%H:%M:%S} {offset}"


def complete(
    block: HeaderBlock, *, message_id: str, hostname: str, now: datetime
) -> HeaderBlock:
    """Date and Message-ID where they are missing (RFC 6409 §8); without Bcc, Return-Path."""
    block = block.without(_REMOVED)
    added: list[Field] = []
    if block.first(b"date") is None:
        added.append(Field(b"date", f"Date: {date_text(now)}\r\n".encode("ascii")))
    if block.first(b"message-id") is None:
        raw = f"Message-ID: <{message_id}@{hostname}>\r\n".encode("ascii")
        added.append(Field(b"message-id", raw))
    return HeaderBlock((*block.fields, *added)) if added else block


def received_field(
    client: Client, *, hostname: str, message_id: str, now: datetime, mask_client: bool
) -> Field:
    """The Received field (RFC 5321 §4.4). It names no recipient: some may be Bcc."""
    date = date_text(now)
    before, between = _around_id(client, hostname, mask_client, len(message_id), len(date))
    return Field(b"received", f"{before}{message_id}{between}{date}\r\n".encode("ascii"))


@made_once_with  # the messages of a session have the same
def _around_id(
    client: Client, hostname: str, mask_client: bool, id_length: int, date_length: int
) -> tuple[str, str]:
    """The field up to the id, and from there to the date; folds depend on lengths alone."""
    smtp, message_id = client.smtp, "\0" * id_length
    origin = ["from localhost"]
    if not mask_client:
        helo = _UNSAFE.sub("?", smtp.helo)[:_MAX_HELO] or "unknown"
        origin = [f"from {helo}", f"([{_literal(client.address)}])"]
    end = [f"id {message_id}"]
    if smtp.tls_cipher is not None and smtp.tls_cipher.startswith("TLS_"):
        end.append(f"tls {_UNSAFE.sub('?', smtp.tls_cipher)}")  # RFC 8314 §4.3
    end[-1] += ";"
    to = (f"by {hostname}", f"with {client.protocol}")  # RFC 3848 names the protocols
    text = _folded("Received:", (*origin, *to, *end, "\0" * date_length))
    before, _, after = text.partition(message_id)
    return before, after[:-date_length]


def _folded(text: str, words: Iterable[str]) -> str:
    """The text with the words behind it, folded before those that would make a line long."""
    room = _MAX_LINE - len(text)
    for word in words:
        length = 1 + len(word)
        if length > room:
            text, room = f"{text}\r\n\t{word}", _MAX_LINE - length
        else:
            text, room = f"{text} {word}", room - length
    return text


def _literal(address: str) -> str:
    """An address literal's inside (RFC 5321 §4.1.3), without the zone of a link-local one."""
    safe = _UNSAFE.sub("?", address.partition("%")[0])
    return f"IPv6:{safe}" if ":" in safe else safe
