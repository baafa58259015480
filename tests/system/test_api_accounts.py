"""The caller's account by the API: its switch, its statistics, what it says of itself."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from smtpgate.directory.accounts import update_account
from smtpgate.directory.change import Actor
from smtpgate.gate.gate import Gate
from tests.support.aws import aws_client, called
from tests.support.world import OWNER
from tests.system.test_api import MAILER, OWNER_ROOT, refused, serving

pytestmark = pytest.mark.slow

MAIL: dict[str, Any] = {
    "FromEmailAddress": "marketing@ses-example.com",
    "Destination": {"ToAddresses": ["jane@example.net", "joe@example.org"]},
    "Content": {"Raw": {"Data": b"From: marketing@ses-example.com\r\n\r\nHello.\r\n"}},
}


async def pause(gate: Gate, reason: str | None) -> None:
    """Pause the owner's account as an operator does, or resume it."""
    async with gate.store.changing(Actor("operator", "test")) as change:
        await update_account(change, OWNER, {"paused_reason": reason})
    await gate.service.catch_up()


async def test_an_account_turns_its_sending_off_and_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as (gate, sink, port):
        older, newer = (aws_client(one, port, OWNER_ROOT) for one in ("ses", "sesv2"))
        await called(older.update_account_sending_enabled, Enabled=False)
        await gate.service.catch_up()
        assert await called(older.get_account_sending_enabled) == {"Enabled": False}
        code, status, text = await refused(newer.send_email, **MAIL)
        assert (code, status) == ("SendingPausedException", 400)
        assert text.startswith("Sending paused for this account.")
        raw = {"Destinations": ["jane@example.net"], "RawMessage": MAIL["Content"]["Raw"]}
        code, status, _ = await refused(older.send_raw_email, **raw)
        assert (code, status) == ("AccountSendingPausedException", 400)
        assert not sink.messages
        account = await called(newer.get_account)
        assert (account["SendingEnabled"], account["EnforcementStatus"]) == (False, "HEALTHY")
        await called(newer.put_account_sending_attributes, SendingEnabled=True)
        await pause(gate, "unpaid")
        await called(newer.put_account_sending_attributes, SendingEnabled=True)
        await gate.service.catch_up()
        account = await called(newer.get_account)
        assert (account["SendingEnabled"], account["EnforcementStatus"]) == (False, "SHUTDOWN")
        assert (await refused(newer.send_email, **MAIL))[0] == "SendingPausedException"
        await pause(gate, None)
        await called(newer.send_email, **MAIL)
        assert len(sink.messages) == 1
        denied = await refused(
            aws_client("ses", port, MAILER).update_account_sending_enabled, Enabled=False
        )
        assert denied[:2] == ("AccessDenied", 403)


async def test_what_an_account_reads_of_itself(tmp_path: Path) -> None:
    async with serving(tmp_path) as (gate, _, port):
        older, newer = (aws_client(one, port, OWNER_ROOT) for one in ("ses", "sesv2"))
        assert await called(older.get_send_statistics) == {"SendDataPoints": []}
        await called(newer.send_email, **MAIL)
        (point,) = (await called(older.get_send_statistics))["SendDataPoints"]
        timestamp = point.pop("Timestamp")
        assert timestamp <= gate.clock.now() < timestamp + timedelta(minutes=16)
        assert point == {"DeliveryAttempts": 2, "Bounces": 0, "Complaints": 0, "Rejects": 0}
        await called(newer.put_account_suppression_attributes, SuppressedReasons=["COMPLAINT"])
        says = {
            "MailType": "TRANSACTIONAL",
            "WebsiteURL": "https://www.example.com",
            "UseCaseDescription": "Receipts.",
        }
        await called(newer.put_account_details, **says)
        assert await called(newer.get_account) == {
            "DedicatedIpAutoWarmupEnabled": False,
            "EnforcementStatus": "HEALTHY",
            "ProductionAccessEnabled": True,
            "SendQuota": {"Max24HourSend": 1000, "MaxSendRate": 1000, "SentLast24Hours": 2},
            "SendingEnabled": True,
            "SuppressionAttributes": {"SuppressedReasons": ["COMPLAINT"]},
            "Details": says,
        }
