"""A relay's bounce, through a whole gate: the recipients it may have, and its signature."""

import json
from pathlib import Path
from typing import Any

from smtpgate.core.history.story import story_of
from smtpgate.gate.gate import Gate
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from tests.support.inprocess import is_signed, login, open_gate, send
from tests.support.world import IDENTITY

TO = "marketing@ses-example.com"
BOUNCE = (
    "Received: by relay.example (Postfix)\r\n"
    "\tid 4C0B1; Sat, 28 Nov 2026 17:00:00 +0000 (UTC)\r\n"
    "Date: Sat, 28 Nov 2026 17:00:00 +0000 (UTC)\r\n"
    "From: MAILER-DAEMON@relay.example (Mail Delivery System)\r\n"
    f"Subject: Undelivered Mail Returned to Sender\r\nTo: {TO}\r\n"
    "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/report; report-type=delivery-status;\r\n"
    '\tboundary="4C0B1/relay.example"\r\n\r\n'
    "--4C0B1/relay.example\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n"
    "--4C0B1/relay.example\r\nContent-Type: message/delivery-status\r\n\r\n"
    "Reporting-MTA: dns; relay.example\r\n\r\nAction: failed\r\n\r\n"
    "--4C0B1/relay.example--\r\n"
)
OWN = """
[accounts.888888888888.identities."gate.example"]
verified = true
dkim = [{ selector = "test", key_file = "dkim.pem" }]
"""


async def logged(gate: Gate, folder: Path) -> dict[str, Any]:
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    entry: dict[str, Any] = [line for line in lines if line["event"] == "submission"][-1]
    return entry


async def test_a_relay_s_bounce_passes_to_the_author_of_the_mail_unsigned(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, BOUNCE, sender="", to=(TO,))).startswith("250")
        (kept,) = sink.messages
        assert (kept.mail_from, kept.recipients) == ("<>", (TO,))
        assert b"DKIM-Signature" not in kept.content
        entry = await logged(gate, tmp_path)
        assert entry["identities"] == [
            {"role": "report", "address": TO, "arn": IDENTITY, "how": "inferred"}
        ]
        assert isinstance(gate.journal, LiveJournal)
        reader = JournalReader(gate.journal.store, gate.journal.store.key())
        record = await reader.get(entry["id"])
        assert record is not None
        output = str(story_of(record, gate.clock.now()))
        assert f"report to {TO}: {IDENTITY}" in output
        assert "Not signed." in output


async def test_the_gate_s_own_domain_signs_it_when_it_has_a_key(tmp_path: Path) -> None:
    async with open_gate(tmp_path, accounts=OWN) as (gate, sink):
        assert (await send(await login(gate), BOUNCE, sender="", to=(TO,))).startswith("250")
        assert b"d=gate.example;" in sink.messages[0].content
        assert (await logged(gate, tmp_path))["signing_domain"] == "gate.example"


async def test_it_goes_nowhere_else(tmp_path: Path) -> None:
    async with open_gate(tmp_path, accounts=OWN) as (gate, sink):
        dialog = await login(gate)
        for sender, to in (
            ("", ("jane@example.net",)),
            ("", (TO, "jane@example.net")),
            ("", ("ceo@ses-example.com",)),
            (TO, (TO,)),
        ):
            reply = await send(dialog, BOUNCE, sender=sender, to=to)
            assert "Email address is not verified" in reply, (sender, to)
        plain = BOUNCE.replace("multipart/report", "multipart/mixed")
        assert "not verified" in await send(dialog, plain, sender="", to=(TO,))
        forged = BOUNCE.replace("MAILER-DAEMON@", "ceo@")
        assert "not verified" in await send(dialog, forged, sender="", to=(TO,))
        assert not sink.messages


async def test_the_owner_s_own_mailer_daemon_is_signed_as_any_of_its_mail(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate, "AKIAOWNERROOT0000000")
        own = BOUNCE.replace("relay.example", "ses-example.com")
        reply = await send(dialog, own, sender="", to=("jane@example.net",))
        assert reply.startswith("250")
        assert is_signed(sink.messages[0].content)
