"""The part of a message's subject that is kept."""

from smtpgate.core.history.record import submission_record
from smtpgate.core.message.headers import split_message
from tests.support.events import done
from tests.support.rows import rows


@rows(
    "subject, kept",
    [
        ("Spring sale", "Spring sale"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
        ("\r\n ".join(["x" * 70] * 900), ("x" * 70 + " ") * 2 + "x" * 55 + "..."),
        ("=?utf-8?q?a=1B[31m?=", "=?utf-8?q?a=1B[31m?="),
        ("=?utf-8?q?Fr=C3=BChling?=", "Frühling"),
        ("=?utf-8?x?nonsense?=", "=?utf-8?x?nonsense?="),
        ("\r\n ".join(["=?utf-8?q?Fr=C3=BChling?="] * 900), "Frühling" * 24 + "Frühl..."),
    ],
    ids=[
        *(
            "short",
            "just as long",
            "too long",
            "of many lines",
            "control",
            "encoded",
            "unclear",
        ),
        "of many encoded lines",
    ],
)
def test_a_subject_is_kept_as_it_is_shown_up_to_a_bound(subject: str, kept: str) -> None:
    event = done()
    message = f"From: a@example.com\r\nSubject: {subject}\r\n\r\nHello.\r\n"
    event.header = split_message(message.encode()).block
    record = submission_record(event, keep_recipients=True, keep_subject=True)
    assert record.subject == kept
