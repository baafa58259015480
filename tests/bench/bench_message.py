"""The time to read and sign a message: medians in microseconds, printed, not judged.

``without RSA`` is all of signing but the private key's work: canonicalization, hashes, the
field. The two large messages are attachments in base64; ``prose`` is the dearer kind, for its
spaces must be looked at.
"""

import base64
import random
import statistics
import time
from collections.abc import Callable
from typing import Final

import pytest

from smtpgate.core.identity import DkimKey
from smtpgate.core.message.author import read_author_fields
from smtpgate.core.message.headers import line_end_problem, split_message
from smtpgate.core.message.intent import take_intent
from smtpgate.core.message.reading import read_message
from smtpgate.core.signing import signature_fields
from tests.support.dkim import DOMAIN, NOW, rsa_key

pytestmark = pytest.mark.bench

ARN: Final = "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"
HEAD: Final = "".join(
    [
        *(f"X-SES-{role}-ARN: {ARN}\r\n" for role in ("SOURCE", "FROM", "RETURN-PATH")),
        *("Received: from a.example.net by b.example.net with ESMTP id x;\r\n\tdate\r\n",) * 3,
        "From: =?utf-8?q?Fr=C3=BChling?= <marketing+spring@ses-example.com>\r\n",
        "Reply-To: Support <support@ses-example.com>\r\n",
        'To: "Jane Doe" <jane@example.net>\r\n',
        "Subject: =?utf-8?q?Your_order_has_been_shipped?=\r\n =?utf-8?q?_today?=\r\n",
        "Date: Mon, 01 Jun 2026 10:00:00 +0200\r\n",
        "Message-ID: <14251.9f3e@ses-example.com>\r\n",
        "MIME-Version: 1.0\r\n",
        'Content-Type: multipart/mixed; boundary="=_x"\r\n',
        "List-Unsubscribe: <https://example.com/u/0d4f8e7c2b>\r\n",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
        "Feedback-ID: 14251:shipping\r\n",
        *(f"X-Campaign-{n}: some words of a header field\r\n" for n in range(8)),
    ]
).encode()


class NoKey:
    algorithm = "rsa-sha256"

    def sign(self, digest: bytes) -> bytes:
        return digest * 8


def prose(octets: int) -> bytes:
    line = b"Dear customer, the quick brown fox jumps over the lazy dog again.\r\n"
    return line * (octets // len(line))


def _attachment(octets: int) -> bytes:
    source = random.Random(1)  # the same octets in each run
    text = prose(1500)
    lines = [base64.b64encode(source.randbytes(57)) for _ in range((octets - len(text)) // 78)]
    return text + b"\r\n".join(lines) + b"\r\n"


def _median_us(work: Callable[[], object]) -> float:
    work()
    taken: list[float] = []
    until = time.perf_counter() + 0.5
    while time.perf_counter() < until or len(taken) < 7:
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


def _show(note: str, work: Callable[[], object]) -> None:
    print(f"  {note:44} {_median_us(work):9.1f} µs")


def test_reading() -> None:
    message = HEAD + b"\r\n" + prose(4096 - len(HEAD))
    block = split_message(message).block
    left = take_intent(block)[1]
    print(f"\nreading {len(message)} octets, {len(block.fields)} fields")
    _show("line ends", lambda: line_end_problem(message))
    _show("split", lambda: split_message(message))
    _show("take the intent", lambda: take_intent(block))
    _show("authors", lambda: read_author_fields(left, smtputf8=False))
    _show("all of it", lambda: read_message(message, smtputf8=False))
    large = HEAD + b"\r\n" + _attachment(40 * 1024 * 1024)
    _show("line ends at 40 MiB", lambda: line_end_problem(large))


@pytest.mark.parametrize(
    ("note", "body"),
    [
        ("4 KiB", prose(4096 - len(HEAD))),
        ("64 KiB", _attachment(64 * 1024)),
        ("1 MiB", _attachment(1024 * 1024)),
        ("1 MiB of prose", prose(1024 * 1024)),
        ("1 MiB of spaces and tabs", b" \t" * (512 * 1024) + b"x\r\n"),
    ],
)
def test_signing(note: str, body: bytes) -> None:
    block = take_intent(split_message(HEAD).block)[1]

    def sign(*keys: DkimKey) -> object:
        return signature_fields(block, body, domain=DOMAIN, keys=keys, now=NOW)

    no_key = DkimKey("rsa", NoKey())
    print(f"\nsigning {note}")
    _show("without RSA", lambda: sign(no_key))
    _show("with RSA-2048", lambda: sign(rsa_key()))
    _show("with two RSA-2048 keys", lambda: sign(rsa_key(), rsa_key()))
