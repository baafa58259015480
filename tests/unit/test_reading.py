from smtpgate.core.message.reading import LARGE_OCTETS, takes_long_to_read
from tests.support.rows import rows

FILL = b"X-Fill: " + b"x" * 900 + b"\r\n"
LONG = FILL + b"X-Fill: " + b"y" * 200 + b"\r\n"


@rows(
    "head, takes_long",
    [
        (b"From: " + b"xn--a," * 160, False),
        (b"From: " + b"=?u?q?a?= " * 100, False),
        (b"Subject: \xc3\xa4\r\n" + FILL, False),
        (LONG + b"From: " + b"xn--a," * 50, False),
        (LONG + b"From: " + b"xn--a," * 51, True),
        (LONG + b"From: " + b"=?u?q?a?= " * 50, False),
        (LONG + b"From: " + b"=?u?q?a?= " * 51, True),
        (LONG + b"Subject: \xc3\xa4", True),
        (LONG * 7 + b"Subject: a", False),
        (LONG * 8 + b"Subject: a", True),
    ],
    ids=str,
)
def test_a_message_takes_long_to_read_by_the_size_and_the_words_of_its_header(
    head: bytes, takes_long: bool
) -> None:
    body = b"xn-- =? \xc3\xa4\r\n" * 200
    assert takes_long_to_read(head + b"\r\n\r\n" + body) is takes_long


def test_a_large_message_takes_long_to_read() -> None:
    head = b"Subject: a\r\n\r\n"
    assert not takes_long_to_read(head + b"x" * (LARGE_OCTETS - len(head)))
    assert takes_long_to_read(head + b"x" * (LARGE_OCTETS + 1 - len(head)))
