"""Recipients that the upstream refuses for good: the others get the message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from smtpgate.core.history.record import RefusedRecipient
from smtpgate.core.history.story import story_of
from smtpgate.core.limits import Subject
from smtpgate.gate.gate import Gate
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from tests.support.clock import MovableClock
from tests.support.inprocess import is_signed, login, open_gate
from tests.support.ledgers import used_24h
from tests.support.outbox import states
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.waiting import until
from tests.support.world import DELEGATE
from tests.system.test_recipients import (
    BAD,
    BUSY,
    GONE_REPLY,
    GOOD,
    OTHER,
    as_named,
    try_all,
)
from tests.system.test_reports import OWN, logged

pytestmark = pytest.mark.slow

ACCOUNT = Subject(DELEGATE)


@asynccontextmanager
async def relaying(
    folder: Path, *extensions: str, clock: MovableClock | None = None
) -> AsyncIterator[tuple[Gate, UpstreamServer]]:
    async with (
        open_upstream(*extensions) as upstream,
        open_gate(folder, port=upstream.port, clock=clock) as (made, _),
    ):
        upstream.answers["RCPT"] = as_named
        yield made, upstream


def journal_of(gate: Gate) -> LiveJournal:
    journal = gate.host.stores.journal
    assert isinstance(journal, LiveJournal)
    return journal


def reports_in(upstream: UpstreamServer) -> list[EmailMessage]:
    read = [message_from_bytes(one, policy=policy.default) for one in upstream.messages]
    return [one for one in read if one.get_content_type() == "multipart/report"]


def groups(report: EmailMessage) -> list[Any]:
    """The groups of fields of the delivery status: of the message, of each recipient."""
    (_, status, _) = report.iter_parts()
    return list(status.get_payload())


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)], ids=["lock step", "pipelined"])
async def test_the_others_get_the_message_and_the_return_path_a_report(
    tmp_path: Path, extensions: tuple[str, ...]
) -> None:
    async with relaying(tmp_path, *extensions) as (gate, upstream):
        dialog = await login(gate)
        *_, verdict = await try_all(dialog, GOOD, BAD, OTHER)
        assert verdict.startswith("250")
        message_id = verdict.split()[-1]
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 2
        await until(lambda: len(upstream.messages) == 2)
        message, report = upstream.messages
        assert b"Hello." in message
        assert b"Hello." not in report
        (read,) = reports_in(upstream)
        assert read["To"] == "marketing@ses-example.com"
        assert read["Auto-Submitted"] == "auto-replied"
        of_message, of_bad = groups(read)
        assert of_message["X-Smtpgate-Message-Id"] == message_id
        assert of_bad["Final-Recipient"] == f"rfc822;{BAD}"
        assert of_bad["Action"] == "failed"
        assert of_bad["Status"] == "5.1.1"
        assert of_bad["Diagnostic-Code"] == f"smtp; {GONE_REPLY}"
        words, _, original = read.iter_parts()
        assert BAD in words.get_content()
        assert GOOD not in report.decode()
        assert original.get_content_type() == "text/rfc822-headers"
        assert "Subject: Spring" in original.get_content()
        mail_commands = [
            one for visit in upstream.visits for one in visit.commands if one.startswith("MAIL")
        ]
        assert mail_commands[-1].startswith("MAIL FROM:<>")
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 2, "not charged"


async def test_all_refused_recipients_of_a_message_are_in_one_report(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        bad = [f"bad{number}@example.net" for number in range(12)]
        assert (await try_all(await login(gate), GOOD, *bad))[-1].startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        (read,) = reports_in(upstream)
        assert [one["Final-Recipient"] for one in groups(read)[1:]] == [
            f"rfc822;{a}" for a in bad
        ]
        sent = [state for _, state in await states(journal_of(gate), "'mail'")]
        assert len(sent) == 1


async def test_a_deferred_recipient_among_them_defers_the_message(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        dialog = await login(gate)
        assert (await try_all(dialog, GOOD, BAD, BUSY))[-1].startswith("451")
        assert await states(journal_of(gate), "'mail'") == []
        # The next try has the deferral at RCPT, the bad one bounces, the good one gets it.
        good, bad, busy, verdict = await try_all(dialog, GOOD, BAD, BUSY)
        assert [one[:3] for one in (good, bad, busy, verdict)] == ["250", "250", "450", "250"]
        await until(lambda: len(upstream.messages) == 2)
        assert len(reports_in(upstream)) == 1


@pytest.mark.parametrize("code", ["554 5.6.0 content refused", "452 4.3.1 disk full"])
async def test_nobody_gets_a_report_of_a_message_that_is_refused_after_its_content(
    tmp_path: Path, code: str
) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        upstream.answers["MESSAGE"] = code
        *_, verdict = await try_all(await login(gate), GOOD, BAD)
        assert verdict.startswith(code[:3])
        assert await states(journal_of(gate), "'mail'") == []
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 0


async def test_a_message_with_a_null_reverse_path_has_no_report(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        *_, verdict = await try_all(await login(gate), GOOD, BAD, sender="")
        assert verdict.startswith("250")
        assert await states(journal_of(gate), "'mail'") == []
        assert len(upstream.messages) == 1


async def test_nothing_is_sent_when_the_refusals_cannot_be_recorded(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        dialog = await login(gate)
        writer = journal_of(gate).writer
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def fails(command: str) -> str:
            if not taken.done():
                writer.fail("disk full")
                taken.set_result(None)
            return as_named(command)

        upstream.answers["RCPT"] = fails
        *_, verdict = await try_all(dialog, GOOD, BAD)
        assert verdict.startswith("451")
        assert not upstream.messages
        assert await states(journal_of(gate), "'mail'") == []


async def test_a_report_is_signed_by_the_gates_own_domain_if_that_has_a_key(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, accounts=OWN) as (gate, _),
    ):
        upstream.answers["RCPT"] = as_named
        assert (await try_all(await login(gate), GOOD, BAD))[-1].startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        (read,) = reports_in(upstream)
        assert "d=gate.example;" in read["DKIM-Signature"]
        assert read["From"].endswith("<MAILER-DAEMON@gate.example>")
        assert is_signed(upstream.messages[1], domain="gate.example")


async def test_delivery_options_are_passed_on_and_are_in_the_report(tmp_path: Path) -> None:
    async with relaying(tmp_path, "DSN", "PIPELINING") as (gate, upstream):
        dialog = await login(gate)
        await try_all(dialog, GOOD)  # the gate has seen the upstream's extensions then
        assert "250-DSN" in await dialog.say("EHLO client.example")
        await dialog.say("MAIL FROM:<marketing@ses-example.com> RET=HDRS ENVID=an+20id")
        await dialog.say(
            f"RCPT TO:<{GOOD}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;good+2B1@x.test"
        )
        await dialog.say(f"RCPT TO:<{BAD}> ORCPT=rfc822;list@x.test")
        await dialog.say("RCPT TO:<bad2@example.net> NOTIFY=NEVER")
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(b"From: marketing@ses-example.com\r\n\r\nHello.\r\n.\r\n")
        assert (await dialog.reply()).startswith("250")
        await until(lambda: len(upstream.messages) == 3)
        commands = [one for visit in upstream.visits for one in visit.commands]
        (mail,) = [one for one in commands if "ENVID" in one]
        assert mail.endswith(" RET=HDRS ENVID=an+20id")
        options = "NOTIFY=FAILURE,SUCCESS ORCPT=rfc822;good+2B1@x.test"
        assert f"RCPT TO:<{GOOD}> {options}" in commands
        assert "RCPT TO:<bad2@example.net> NOTIFY=NEVER" in commands
        (read,) = reports_in(upstream)
        of_message, of_bad = groups(read)
        assert of_message["Original-Envelope-Id"] == "an id"
        assert of_bad["Original-Recipient"] == "rfc822;list@x.test"
        assert of_bad["Final-Recipient"] == f"rfc822;{BAD}"


async def test_a_sender_that_asks_for_success_learns_when_the_upstream_has_no_dsn(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        dialog = await login(gate)
        assert "250-DSN" in await dialog.say("EHLO client.example")
        await dialog.say("MAIL FROM:<marketing@ses-example.com> RET=FULL ENVID=an+20id")
        await dialog.say(f"RCPT TO:<{GOOD}> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;good@x.test")
        await dialog.say(f"RCPT TO:<{OTHER}> NOTIFY=NEVER")
        await dialog.say(f"RCPT TO:<{BAD}> NOTIFY=SUCCESS")
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(b"From: marketing@ses-example.com\r\nX-A: b\r\n\r\nHello.\r\n.\r\n")
        verdict = await dialog.reply()
        assert verdict.startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        commands = " ".join(one for visit in upstream.visits for one in visit.commands)
        assert not {"ENVID", "NOTIFY", "RET=", "ORCPT"} & set(
            commands.replace("=", " ").split()
        )
        (read,) = reports_in(upstream)
        assert read["To"] == "marketing@ses-example.com"
        of_message, of_good = groups(read)
        assert of_message["Original-Envelope-Id"] == "an id"
        assert of_good["Original-Recipient"] == "rfc822;good@x.test"
        assert of_good["Final-Recipient"] == f"rfc822;{GOOD}"
        assert (of_good["Action"], of_good["Status"]) == ("relayed", "2.0.0")
        assert "X-A: b" in str(read)  # its header fields, as with RET=HDRS
        journal = journal_of(gate)
        record = await JournalReader(journal.store, journal.store.key()).get(
            verdict.split()[-1]
        )
        assert record is not None
        assert record.options == (
            "RET=FULL",
            "ENVID=an id",
            f"<{GOOD}> NOTIFY=DELAY,SUCCESS ORCPT=rfc822;good@x.test",
            f"<{OTHER}> NOTIFY=NEVER",
            f"<{BAD}> NOTIFY=SUCCESS",
        )
        shown = str(story_of(record, gate.clock.now()))
        assert "Asked for by its sender:" in shown


async def test_without_an_outbox_dsn_is_the_upstreams(tmp_path: Path) -> None:
    sections = "[outbox]\nenabled = false\n"
    async with (
        open_upstream("DSN") as upstream,
        open_gate(tmp_path, port=upstream.port, sections=sections) as (gate, _),
    ):
        dialog = await login(gate)
        assert "DSN" not in await dialog.say("EHLO client.example")
        refused = await dialog.say("MAIL FROM:<marketing@ses-example.com> ENVID=x")
        assert refused == "555 5.5.4 Parameter of an extension not offered: ENVID"
        assert (await try_all(dialog, GOOD))[-1].startswith("250")
        assert "250-DSN" in await dialog.say("EHLO client.example")
        said = await dialog.say("MAIL FROM:<marketing@ses-example.com> ENVID=x")
        assert said.startswith("250")


@pytest.mark.parametrize("keeps", [True, False], ids=["with recipients", "without"])
async def test_the_journal_and_the_log_have_who_was_refused(
    tmp_path: Path, *, keeps: bool
) -> None:
    sections = "" if keeps else "[journal]\nrecipients = false\n"
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, sections=sections) as (gate, _),
    ):
        upstream.answers["RCPT"] = as_named
        *_, verdict = await try_all(await login(gate), GOOD, BAD)
        journal = journal_of(gate)
        record = await JournalReader(journal.store, journal.store.key()).get(
            verdict.split()[-1]
        )
        assert record is not None
        assert record.refused == (RefusedRecipient(BAD if keeps else "", GONE_REPLY),)
        words = "It refused 1 recipient, which bounced; the others got the message:"
        assert words in str(story_of(record, gate.clock.now()))
        line = await logged(gate, tmp_path)
        assert line["refused"] == [{"reply": GONE_REPLY, "rcpt_to": BAD}]
