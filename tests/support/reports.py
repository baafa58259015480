"""Reports for tests: whole ones, and pieces to put together at random."""

from collections.abc import Iterable
from typing import Final

from hypothesis import strategies as st

from smtpgate.core.feedback.mime import read_message
from smtpgate.core.feedback.read import read_parts
from smtpgate.core.feedback.report import FeedbackReport

_FIELDS: Final = """\
From: MAILER-DAEMON@mx.example.net
To: b+x@bounce.example.com
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary="x"

--x

This is the mail system at host mx.example.net.

--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
"""
_RECIPIENT: Final = """
Final-Recipient: rfc822; {}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 User unknown
"""


def status_report(addresses: Iterable[str]) -> bytes:
    """A delivery status notification about addresses that do not exist."""
    return (_FIELDS + "".join(map(_RECIPIENT.format, addresses)) + "\n--x--\n").encode()


def read_report(octets: bytes) -> FeedbackReport:
    """The report that the core reads."""
    return read_parts(read_message(octets))


_PIECES: Final = (
    b"\n",
    b"\n\n",
    b"\r",
    b" ",
    b"--x\n",
    b"--x--\n",
    b"--y\n",
    b"From: MAILER-DAEMON@mx.example.net\n",
    b"Subject: Undelivered Mail Returned to Sender\n",
    b"Subject: =?utf-8?q?Auto=3A?= x\n",
    b"Subject: Automatic reply\n",
    b"Auto-Submitted: auto-replied\n",
    b"X-Failed-Recipients: jane@example.net\n",
    b"MIME-Version: 1.0\n",
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="x"\n',
    b'Content-Type: multipart/mixed; boundary="y"\n',
    b"Content-Type: message/delivery-status\n",
    b"Content-Type: message/feedback-report\n",
    b"Content-Type: message/rfc822\n",
    b"Content-Type: text/html; charset=iso-2022-jp\n",
    b"Content-Type: text/plain; charset=gb18030\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: quoted-printable\n",
    b"Reporting-MTA: dns; mx.example.net\n",
    b"Original-Envelope-Id: 0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000\n",
    b"Final-Recipient: rfc822; jane@example.net\n",
    b"Final-Recipient: utf-8; \\x{D800}j\\x{E9}@example.net\n",
    b"Original-Recipient: rfc822; <jane+x@example.org>\n",
    b"Action: failed\n",
    b"Action: delayed\n",
    b"Status: 5.1.1\n",
    b"Status: 4.2.2 (full)\n",
    b"Diagnostic-Code: smtp; 550-5.7.1 no\n  550 5.7.1 spam\n",
    b"Feedback-Type: abuse\n",
    b"Original-Rcpt-To: <jane@example.net>\n",
    b"<jane@example.net>: host mx said: 550 5.1.1 User unknown\n",
    b"  jane@example.net\n    (generated from all@example.com)\n",
    b"Your message could not be delivered to: jane@example.net\n",
    b"--- Below this line is a copy of the message.\n",
    b'{"notificationType": "Bounce", "bounce": {"bouncedRecipients": [{"emailAddress": "a@b"}',
    b'"bounceType": "Permanent"}]}}',
    b"\x1b$B\x24\x22\x1b(B",
    b"\xff\xfe\x00",
    b"QUFB",
    b"=41=\n=3D",
)


def pieces_of_reports() -> st.SearchStrategy[bytes]:
    """Pieces of reports in any order, with any octets between them."""
    piece = st.sampled_from(_PIECES) | st.binary(max_size=20)
    return st.lists(piece, max_size=30).map(b"".join)
