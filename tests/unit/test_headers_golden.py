"""Messages before and after, octet for octet."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from smtpgate.core.message.envelope import Client, SmtpFacts
from smtpgate.core.message.headers import split_message
from smtpgate.core.message.intent import take_intent
from smtpgate.core.message.trace import complete, received_field
from tests.support.cases import CASES

BEFORE = sorted(
    path for path in (CASES / "headers").glob("*.eml") if not path.stem.endswith(".want")
)
CLIENT = Client(
    address="192.0.2.7",
    listener="submission",
    protocol="ESMTPSA",
    smtp=SmtpFacts("client.example.net"),
)
NOW = datetime(2026, 6, 1, 10, 0, 5, tzinfo=timezone(timedelta(hours=2)))
MESSAGE_ID = "0100019e8264a5c8-00000000-1111-2222-3333-444444444444-000000"


@pytest.mark.parametrize("path", BEFORE, ids=lambda path: path.stem)
def test_a_message_leaves_as_it_came_but_for_what_is_taken_and_added(path: Path) -> None:
    message = split_message(path.read_bytes())
    _, block = take_intent(message.block)
    block = complete(block, message_id=MESSAGE_ID, hostname="gate.example.com", now=NOW)
    received = received_field(
        CLIENT,
        hostname="gate.example.com",
        message_id=MESSAGE_ID,
        now=NOW,
        mask_client=False,
    )
    parts = block.with_first(received).raw_parts
    after = b"".join([*parts, b"\r\n", message.body])
    assert after == path.with_suffix(".want.eml").read_bytes()
