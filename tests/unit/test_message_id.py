import re
from datetime import UTC, datetime, timedelta

from smtpgate.core.message_id import message_id

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# The shape observed on SES.
SHAPE = re.compile(
    r"[0-9a-f]{16}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-[0-9]{6}"
)


def test_a_message_id_has_the_shape_that_clients_of_ses_look_for() -> None:
    assert SHAPE.fullmatch(message_id(AT, bytes(range(16))))


def test_message_ids_sort_by_time() -> None:
    later = message_id(AT + timedelta(milliseconds=1), bytes(16))
    assert message_id(AT, b"\xff" * 16) < later
