"""A whole gate with its journal: its row is written before a message or a verdict is sent.

The journal is taken away at each point of a message's way, and put back.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.core.history.record import Record
from smtpgate.core.limits import Subject
from smtpgate.gate.gate import Gate
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.rows import Row
from tests.support.inprocess import ARNS, MESSAGE, auth_plain, login, open_gate, send
from tests.support.journal import Breakable, all_rows
from tests.support.ledgers import soon, used_24h
from tests.support.upstream_server import HANG_UP, HOLD, open_upstream
from tests.support.world import DELEGATE, IDENTITY

ALLOW: Final = '[journal]\non_failure = "allow"'
UNAVAILABLE: Final = "451 4.3.0 Temporary service failure (journal-unavailable; 0100"
REFUSED: Final = MESSAGE.replace("From: Marketing <marketing@", "From: Ceo <ceo@")


def journal_of(gate: Gate) -> LiveJournal:
    assert isinstance(gate.journal, LiveJournal)
    return gate.journal


def file_of(folder: Path) -> Breakable:
    return Breakable(folder / "state" / "journal.sqlite")


async def rows_of(gate: Gate) -> list[Row]:
    return await all_rows(journal_of(gate).store)


async def record(gate: Gate, reply: str) -> Record:
    """The record of the message id in a reply."""
    store = journal_of(gate).store
    message_id = re.search(r"0100[0-9a-f-]{50,}", reply)
    assert message_id is not None
    kept = await JournalReader(store, store.key()).get(message_id[0])
    assert kept is not None
    return kept


async def used(gate: Gate) -> int:
    return await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now())


async def logged(gate: Gate, folder: Path) -> list[dict[str, Any]]:
    await gate.log.flush()
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


async def test_a_message_that_was_accepted_can_be_reported_in_full(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        reply = await send(await login(gate), to=("jane@example.net", "joe@example.net"))
        kept = await record(gate, reply)
    assert (kept.outcome, kept.reason) == ("accepted", "accepted")
    assert kept.account_id == DELEGATE
    assert kept.username == "AKIAMAILER0000000000"
    assert [str(one) for one in kept.forward_paths or ()] == [
        "jane@example.net",
        "joe@example.net",
    ]
    assert str(kept.intent.from_arn) == IDENTITY
    assert kept.authors[0].display_name == "Marketing"
    assert kept.decision is not None
    assert [cited.sid for cited in kept.decision.determining] == [
        "MaySend",
        "AuthorizeMarketer",
    ]
    assert '"Sid": "AuthorizeMarketer"' in kept.decision.determining[1].text
    assert kept.limits[0].used_24h == 2
    assert (kept.signing_domain, kept.selectors) == ("ses-example.com", ("test",))
    assert kept.upstream == "sink"
    assert str(kept.reply) == reply
    stages = [stage for stage, _ in kept.stage_s]
    assert stages == ["message", "authorization", "limits", "signing", "relay"]


async def test_a_message_that_was_refused_tells_the_statement_that_came_closest(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        kept = await record(gate, await send(await login(gate), REFUSED))
    assert (kept.outcome, kept.reason) == ("refused", "implicit-deny")
    assert kept.decision is not None
    assert kept.decision.nearest_miss is not None
    assert "marketing+*@ses-example.com" in kept.decision.nearest_miss.text


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (f"{ARNS}no header block\r\n", "malformed-message"),
        ("X-SES-FROM-ARN: nonsense\r\n" + MESSAGE.removeprefix(ARNS), "invalid-arn"),
        (MESSAGE.replace("ses-example.com>", "example.org>"), "not-aligned"),
    ],
)
async def test_what_is_refused_early_is_written_as_far_as_it_is_known(
    tmp_path: Path, message: str, reason: str
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        kept = await record(gate, await send(await login(gate), message))
        assert kept.reason == reason
        assert kept.octets == len(message)
        assert len(await rows_of(gate)) == 1


async def test_a_login_that_was_refused_has_a_row(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        await send(dialog)
        other = await type(dialog).open(gate.listeners["plain"].port)
        await other.reply()
        await other.say("EHLO client.example")
        wrong = auth_plain(password="wrong")
        assert (await other.say(f"AUTH PLAIN {wrong}")).startswith("535")
        await send(dialog)
        kinds = sorted(row.kind for row in await rows_of(gate))
        assert kinds == ["login", "submission", "submission"]


async def test_nothing_is_sent_that_cannot_be_written(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        file.break_()
        for message in (MESSAGE, REFUSED, f"{ARNS}no header block\r\n"):
            assert (await send(dialog, message)).startswith(UNAVAILABLE)
        assert not sink.messages
        assert await used(gate) == 0
        entries = [one for one in await logged(gate, tmp_path) if one["event"] == "submission"]
        assert {one["reason"] for one in entries} == {"journal-unavailable"}
        failed = [
            one for one in await logged(gate, tmp_path) if one["event"] == "journal-failed"
        ]
        assert len(failed) == 1
        file.mend()
        await journal_of(gate).writer.retry()
        assert (await send(dialog)).startswith("250")
        assert (await send(dialog, REFUSED)).startswith("554")
        output = sorted(row.reason for row in await rows_of(gate))
        assert output == ["accepted", "implicit-deny", *["journal-unavailable"] * 3]


async def test_a_verdict_of_the_upstream_is_reported_as_it_is_and_written_later(
    tmp_path: Path,
) -> None:
    file = file_of(tmp_path)

    def breaking(answer: str) -> Callable[[str], str]:
        def give(_command: str) -> str:
            file.break_()
            return answer

        return give

    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        dialog = await login(gate)
        for answer, outcome in (
            ("250 2.0.0 queued", "accepted"),
            ("550 5.7.1 spam", "refused"),
            (HANG_UP, "in-doubt"),
        ):
            upstream.answers["MESSAGE"] = breaking(answer)
            reply = await send(dialog)
            assert reply.startswith("451 4.4.2" if answer is HANG_UP else answer[:9])
            file.mend()
            assert (await record(gate, reply)).outcome == "relaying"
            await journal_of(gate).writer.retry()
            kept = await record(gate, reply)
            assert (kept.outcome, str(kept.reply)) == (outcome, reply)
        assert journal_of(gate).tally.lost == 0
        assert await used(gate) == 2


async def test_where_it_is_allowed_mail_passes_and_is_written_later(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    async with open_gate(tmp_path, sections=ALLOW) as (gate, sink):
        dialog = await login(gate)
        file.break_()
        accepted, refused = await send(dialog), await send(dialog, REFUSED)
        assert accepted.startswith("250")
        assert refused.startswith("554 5.7.1")
        assert len(sink.messages) == 1
        assert gate.readiness.is_ready()[0]
        assert journal_of(gate).owed == 2
        file.mend()
        await journal_of(gate).writer.retry()
        assert (await record(gate, accepted)).outcome == "accepted"
        assert (await record(gate, refused)).outcome == "refused"


@pytest.mark.slow
async def test_a_journal_that_works_again_is_noticed_without_any_mail(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        file.break_()
        assert (await send(dialog)).startswith(UNAVAILABLE)
        ready, checks = gate.readiness.is_ready()
        assert not ready
        assert "cannot be opened" in checks["journal"]
        file.mend()

        async def is_ready() -> bool:
            return gate.readiness.is_ready()[0]

        await soon(is_ready, True)


async def test_a_message_that_is_cut_off_while_it_is_relayed_is_in_doubt(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        await dialog.say("RCPT TO:<jane@example.net>")
        await dialog.say("DATA")
        await dialog.send(MESSAGE.encode() + b".\r\n")
        await upstream.until(lambda: len(upstream.messages) == 1)
        (row,) = await rows_of(gate)
        assert row.outcome == "relaying"
        store = journal_of(gate).store
        database = store.database
        await gate.stop(drain_s=0, finish_s=0)
        again = replace(store, database=type(database)(database.url, OSError))
        (row,) = await all_rows(again)
        assert (row.outcome, row.reason) == ("in-doubt", "in-doubt")
        await again.close()


async def test_without_a_journal_there_is_none(tmp_path: Path) -> None:
    own, off = 'state_dir = "own"', "[journal]\nenabled = false"
    async with open_gate(tmp_path, gate=own, sections=off) as (gate, _):
        assert (await send(await login(gate))).startswith("250")
        assert gate.readiness.is_ready()[1]["journal"] == "off"
        assert b"smtpgate_journal" not in gate.metrics.render()
    assert not list((tmp_path / "own").glob("journal.*"))


async def test_recipients_are_not_kept_where_that_is_not_wanted(tmp_path: Path) -> None:
    sections = "[journal]\nrecipients = false\nsubject = true"
    async with open_gate(tmp_path, sections=sections) as (gate, _):
        kept = await record(gate, await send(await login(gate)))
    assert (kept.recipients, kept.forward_paths) == (1, None)
    assert kept.subject == "Spring"
    octets = (tmp_path / "state" / "journal.sqlite").read_bytes()
    assert b"jane@example.net" not in octets
    assert b"Hello Jane" not in octets
