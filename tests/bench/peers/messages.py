"""The messages of a benchmark, as they are on the wire after DATA.

Applications send such ones: 4 KiB of text and HTML, or a text with a base64 attachment. The
load generator replaces ``@SENDER@`` and ``@SERIAL@``.
"""

import base64
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SIZES: Final = {"4k": 4096, "64k": 65_536, "1m": 1 << 20}

_BOUNDARY: Final = "----=_Part_5f1d0c"
_HEADER: Final = f"""\
Received: from worker-3.internal.example.com (worker-3.internal.example.com [192.0.2.40])
\tby queue-1.example.com with ESMTP id 7Hq2xk51vz;
\tSat, 28 Nov 2026 10:15:04 +0000
Date: Sat, 28 Nov 2026 10:15:04 +0000
From: "Example Orders" <@SENDER@>
Reply-To: Customer service <service@example.com>
To: "A. Customer" <user1@example.net>
Subject: =?utf-8?Q?Your_order_40213_is_on_its_way_=E2=80=93_thank_you?=
Message-ID: <bench-@SERIAL@.40213@worker-3.internal.example.com>
MIME-Version: 1.0
X-Mailer: ExampleMailer 4.1
X-Campaign: 2026-11-orders
List-Unsubscribe: <https://example.com/u/7f21c4>, <mailto:leave@example.com>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
Content-Type: multipart/{{}}; boundary="{_BOUNDARY}"
"""
_WORDS: Final = [
    "account", "address", "arrives", "at", "bill", "by", "customer", "day", "delivery", "for",
    "from", "has", "in", "is", "it", "letter", "mail", "month", "number", "of", "on", "order",
    "our", "parcel", "payment", "please", "price", "reply", "service", "soon", "thank", "that",
    "the", "this", "to", "tracking", "until", "we", "week", "with", "you", "your",
]  # fmt: skip


def _prose(source: random.Random, octets: int) -> Iterator[str]:
    """Lines of words, now and then an empty one, and one that begins with a dot."""
    while octets > 0:
        line = " ".join(source.choices(_WORDS, k=source.randint(9, 13)))
        if source.random() < 0.1:
            line = ""
        elif source.random() < 0.02:
            line = f".{line}"
        yield line
        octets -= len(line) + 2


def _part(content_type: str, encoding: str) -> list[str]:
    return [
        "",
        f"--{_BOUNDARY}",
        f"Content-Type: {content_type}",
        f"Content-Transfer-Encoding: {encoding}",
        "",
    ]


def _lines(octets: int) -> list[str]:
    source = random.Random(octets)
    if octets <= 8192:
        left = octets - len(_HEADER) - 400
        return [
            *_HEADER.format("alternative").splitlines(),
            *_part("text/plain; charset=utf-8", "7bit"),
            *_prose(source, left // 3),
            *_part("text/html; charset=utf-8", "7bit"),
            "<!DOCTYPE html><html><body><p>",
            *_prose(source, left - left // 3),
            "</p></body></html>",
            f"--{_BOUNDARY}--",
        ]
    left = octets - len(_HEADER) - 2400
    attachment = base64.b64encode(source.randbytes(left * 57 // 78)).decode()
    return [
        *_HEADER.format("mixed").splitlines(),
        *_part("text/plain; charset=utf-8", "7bit"),
        *_prose(source, 2000),
        *_part('application/pdf; name="order.pdf"', "base64"),
        *(attachment[at : at + 76] for at in range(0, len(attachment), 76)),
        f"--{_BOUNDARY}--",
    ]


def message(octets: int) -> bytes:
    """A message of about that size, dots doubled, with the dot that ends it."""
    lines = (f".{line}" if line.startswith(".") else line for line in _lines(octets))
    return ("\r\n".join(lines) + "\r\n.\r\n").encode("ascii")


def write_messages(folder: Path) -> dict[str, Path]:
    """Each size in a file of that folder."""
    files = {name: folder / f"{name}.wire" for name in SIZES}
    for name, file in files.items():
        file.write_bytes(message(SIZES[name]))
    return files


def unstuffed(wire: bytes) -> bytes:
    """The message of what was on the wire (RFC 5321 §4.5.2)."""
    text = wire.removesuffix(b".\r\n")
    return text.removeprefix(b".").replace(b"\r\n..", b"\r\n.")
