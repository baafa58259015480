"""Reports made to be expensive: each is read in a fraction of a second of a processor.

The bound here is far above what they take, so that a slow machine passes, and far below what an
expression with quadratic time takes.
"""

import time
from typing import Final

import pytest

from smtpgate.bounce_forms import read_any_report
from tests.support.rows import rows

MOST_S: Final = 2.0
MIB: Final = 1 << 20
HEAD: Final = b"From: MAILER-DAEMON@x.example\nSubject: Undelivered Mail\n"
MIXED: Final = HEAD + b"Content-Type: multipart/mixed; boundary=x\n\n"
STATUS: Final = MIXED + b"--x\nContent-Type: message/delivery-status\n\n"
LETTERS: Final = b"abcdefghijklmnopqrstuvw "


def recipients(field: bytes, number: int) -> bytes:
    return b"".join(
        b"Final-Recipient: rfc822; u%d@x.example\nAction: failed\n" % one + field % one
        for one in range(number)
    )


HOSTILE: Final = {
    "nothing but a letter": b"a" * 2 * MIB,
    "nothing but NUL": b"\0" * 2 * MIB,
    "nothing but CR": b"\r" * 2 * MIB,
    "nothing but line ends": b"\n" * 2 * MIB,
    "a line of letters": HEAD + b"\n" + b"a" * 2 * MIB,
    "a line of blanks": HEAD + b"\n" + b" " * 2 * MIB,
    "lines of blanks with an address's mark": HEAD + b"\n" + (b" " * 1990 + b"@\n") * 1000,
    "letters and marks of addresses": HEAD + b"\n" + b"a@" * MIB,
    "angle brackets": HEAD + b"\n" + b"<" * 2 * MIB,
    "quotation marks": HEAD + b"\n" + (b'"' * 1990 + b"@\n") * 1000,
    "a label again and again": HEAD + b"\n" + b"recipient: " * 180_000,
    "words in front of an address": HEAD + b"\n" + (b"to " * 600 + b"@\n") * 1100,
    "codes": HEAD + b"\n" + b"5.5.5.5.5.5." * 10_000 + b"\n" + b"550 " * 9000,
    "ids": HEAD + b"\n" + b"message-id:" * 90_000 + b"0100" * 250_000,
    "recipients": HEAD + b"\n" + b"".join(b"<u%d@x.example>\n" % one for one in range(60_000)),
    "recipients with a text behind them": HEAD
    + b"\n"
    + b"".join(b"<u%d@x>\n" % one for one in range(1900))
    + (b"550 <u9@x> 5.1.1 " * 90 + b"\n") * 40,
    "fields": b"a: b\n" * 400_000,
    "a folded field": b"Subject: x" + b"\n x" * 600_000,
    "a long field": b"To: " + b"a@x.example, " * 150_000 + b"\n\nx",
    "encoded words": b"Subject: " + b"=?utf-8?q?=41?= " * 4000 + b"=?" * 30_000 + b"\n\nx",
    "parameters": b"Content-Type: multipart/mixed;" + b' a="' * 20_000 + b"\n\n",
    "parts": MIXED + b"--x\n\na\n" * 300_000,
    "delimiters that are longer": MIXED + b"--xa\n" * 400_000,
    "parts in parts": HEAD
    + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (one, one)
        for one in range(20_000)
    ),
    "base64": HEAD + b"Content-Transfer-Encoding: base64\n\n" + b"QUFB" * (MIB // 2),
    "quoted-printable": HEAD
    + b"Content-Transfer-Encoding: quoted-printable\n\n"
    + b"=" * 2 * MIB,
    "tags": HEAD + b"Content-Type: text/html\n\n" + b"<a" * MIB,
    "long tags": HEAD + b"Content-Type: text/html\n\n" + (b"<a " + b"x" * 990) * 2000,
    "styles": HEAD + b"Content-Type: text/html\n\n" + b"<style" * 300_000,
    "escapes of ISO-2022-JP": HEAD + b"\n" + b"\x1b$B" * 500_000,
    "recipients of a status": STATUS + recipients(b"Status: 5.1.%d\n\n", 15_000),
    "recipients of whom nothing is known": STATUS
    + recipients(b"Diagnostic-Code: smtp; %d " + LETTERS * 40 + b"\n\n", 2000),
    "fields of a status": STATUS + b"Final-Recipient: \n" * 100_000,
    "a folded diagnostic": STATUS
    + b"Final-Recipient: rfc822; a@x.example\nDiagnostic-Code: x\n"
    + b" and so on\n" * 80_000,
    "complainers": MIXED
    + b"--x\nContent-Type: message/feedback-report\n\n"
    + b"Original-Rcpt-To: a@x.example\n" * 60_000,
    "deep JSON": b'\n{"Type":' + b"[" * MIB,
    "many in JSON": b'\n{"notificationType":"Bounce","bounce":{"bouncedRecipients":['
    + b'{"emailAddress":"a@x.example"},' * 8000
    + b"{}]}}",
}


@pytest.mark.slow
@rows("name,octets", HOSTILE.items(), ids=list(HOSTILE))
def test_an_expensive_report_is_read_in_bounded_time(name: str, octets: bytes) -> None:
    begun = time.process_time()
    report = read_any_report(octets)
    assert time.process_time() - begun < MOST_S, name
    assert all(one.address for one in report.recipients)
