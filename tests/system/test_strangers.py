"""A sender that no Allow of an identity is about: it learns nothing, the owner everything."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.history.story import as_seen_by, story_of
from smtpgate.core.history.usage import Grain
from smtpgate.gate.gate import Gate
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.usage_query import UsageQuery, usage_rows
from tests.support.inprocess import login, open_gate, send
from tests.support.world import DELEGATE, IDENTITY

OWNER, STRANGER = "888888888888", "777777777777"
NAMES = ("unknown", "unverified", "silent", "denied", "paused")
ACCOUNTS = f"""
[accounts.{STRANGER}]
name = "Stranger"
max_send_rate_per_s = 1000
[[accounts.{STRANGER}.access_keys]]
id = "AKIASTRANGER00000000"
secret_file = "secret"
[accounts.{OWNER}.identities."unverified.example"]
[accounts.{OWNER}.identities."silent.example"]
verified = true
[accounts.{OWNER}.identities."denied.example"]
verified = true
policies = {{ fortress = "fortress.json" }}
[accounts.{OWNER}.identities."paused.example"]
verified = true
status = "paused"
paused_reason = "being sold"
"""
FORTRESS = {
    "Version": "2012-10-17",
    "Statement": {
        "Sid": "NoStrangers",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "ses:*",
        "Resource": f"arn:aws:ses:us-east-1:{OWNER}:identity/denied.example",
    },
}


def message_by(name: str, *, with_arn: bool) -> str:
    arn = f"arn:aws:ses:us-east-1:{OWNER}:identity/{name}.example"
    field = f"X-SES-FROM-ARN: {arn}\r\n" if with_arn else ""
    return f"{field}From: a@{name}.example\r\nTo: jane@example.net\r\nSubject: x\r\n\r\nHi.\r\n"


def without_name_and_id(reply: str, name: str) -> str:
    return re.sub(r"0100[0-9a-f-]{50,}", "ID", reply).replace(f"{name}.example", "NAME")


async def replies(gate: Gate, *, with_arn: bool) -> list[str]:
    dialog = await login(gate, "AKIASTRANGER00000000")
    return [
        await send(dialog, message_by(name, with_arn=with_arn), sender="") for name in NAMES
    ]


def journal_of(gate: Gate) -> LiveJournal:
    assert isinstance(gate.journal, LiveJournal)
    return gate.journal


async def found(gate: Gate, **wanted: Any) -> list[Record]:  # noqa: ANN401 - as for Search
    store = journal_of(gate).store
    reader = JournalReader(store, store.key())
    return [one async for one in reader.search(Search(**wanted), gate.clock.now())]


async def test_a_stranger_cannot_tell_identities_apart_and_the_owner_sees_why(
    tmp_path: Path,
) -> None:
    files = {"fortress.json": json.dumps(FORTRESS)}
    async with open_gate(tmp_path, accounts=ACCOUNTS, files=files) as (gate, sink):
        for with_arn in (False, True):
            output = await replies(gate, with_arn=with_arn)
            pairs = zip(output, NAMES, strict=True)
            assert len({without_name_and_id(*pair) for pair in pairs}) == 1, output
        assert not sink.messages
        await gate.log.flush()
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        reasons = [line["reason"] for line in lines if line["event"] == "submission"]
        assert reasons[5:] == [
            "not-verified",
            "not-verified",
            "implicit-deny",
            "explicit-deny",
            "identity-paused",
        ]
        await _stranger_s_views(gate)
        await _owner_s_view(gate)


async def _stranger_s_views(gate: Gate) -> None:
    """The journal and usage as the stranger sees them: the same of each identity."""
    mine = await found(gate, account_id=STRANGER, reason="implicit-deny")
    assert len(mine) == 5
    stories = set()
    for record in mine:
        seen = as_seen_by(record, STRANGER)
        output = str(story_of(seen, gate.clock.now()))
        output = re.sub(r"after .* ms.*|\d\d:\d\d:\d\d\.\d+Z|\d+ octets", "", output)
        stories.add(without_name_and_id(output, str(record.authors[0].mailbox.domain)[:-8]))
    assert len(stories) == 1, stories
    for reason in ("identity-paused", "explicit-deny"):
        assert await found(gate, account_id=STRANGER, reason=reason) == []
    assert len(await found(gate, account_id=STRANGER, reason="not-verified")) == 5
    now = gate.clock.now()
    sums = await usage_rows(
        journal_of(gate).store,
        UsageQuery(
            grain=Grain.DAY,
            since=now - timedelta(days=1),
            until=now + timedelta(days=1),
            account_id=STRANGER,
        ),
    )
    assert {(row.key.identity, row.key.reason, row.counts.attempts) for row in sums} == {
        ("", "implicit-deny", 5),
        ("", "not-verified", 5),
    }


async def _owner_s_view(gate: Gate) -> None:
    theirs = await found(gate, account_id=OWNER)
    assert {record.reason for record in theirs} == {
        "not-verified",
        "implicit-deny",
        "explicit-deny",
        "identity-paused",
    }
    paused = await found(gate, account_id=OWNER, reason="identity-paused")
    output = str(story_of(as_seen_by(paused[0], OWNER), gate.clock.now()))
    assert "being sold" in output
    assert await found(gate, account_id=OWNER, identity="denied.example")
    assert await found(gate, reason="explicit-deny"), "and so does the operator"


async def test_a_refusal_of_an_inferred_identity_is_that_identity_s(tmp_path: Path) -> None:
    text = "From: ceo@ses-example.com\r\nSubject: x\r\n\r\nx\r\n"
    arn = f"X-SES-FROM-ARN: {IDENTITY}\r\n"
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        for message in (text, arn + text):
            assert IDENTITY in await send(dialog, message, sender="")
        await gate.log.flush()
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        entries = [line for line in lines if line["event"] == "submission"]
        for entry in entries:
            assert [used["arn"] for used in entry["identities"]] == [IDENTITY]
        assert entries[0]["identities"][0]["how"] == "inferred"
        metrics = gate.metrics.render().decode()
        labels = f'account="{DELEGATE}",identity="{IDENTITY}",outcome="refused"'
        assert f"smtpgate_identity_messages_total{{{labels}}} 2.0" in metrics
        seen = await found(gate, account_id=OWNER, identity=IDENTITY)
        assert len(seen) == 2
        inferred = seen[-1] if seen[-1].identities[0].how == "inferred" else seen[0]
        output = str(story_of(as_seen_by(inferred, OWNER), gate.clock.now()))
        assert f"{IDENTITY}: implicit-deny" in output
        assert f"From ceo@ses-example.com: {IDENTITY}, not named" in output


async def test_sender_and_resent_from_are_asked_as_from_is(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        for field in ("Sender", "Resent-From", "Resent-Sender"):
            for address, wanted in (("marketing", "250"), ("ceo", "554 5.7.1 Access denied")):
                head = f"{field}: {address}@ses-example.com\r\n"
                message = head + "From: marketing@ses-example.com\r\n\r\nHello.\r\n"
                reply = await send(dialog, message)
                assert reply.replace("-", " ").startswith(wanted), (field, address, reply)
        assert len(sink.messages) == 3
        twice = "Resent-From: marketing@ses-example.com\r\nResent-From: ceo@ses-example.com\r\n"
        reply = await send(dialog, twice + "From: marketing@ses-example.com\r\n\r\nHello.\r\n")
        assert "saw `ceo@ses-example.com'" in reply
