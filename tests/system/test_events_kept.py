"""Events of messages, through whole gates: kept also where nobody is notified."""

import re
from pathlib import Path

import pytest

from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.kept_event import KeptEvent
from smtpgate.core.history.usage import Grain
from smtpgate.gate.gate import Gate
from smtpgate.journal.event_query import EventQuery, events_of
from tests.support.inprocess import login, open_gate
from tests.support.journal import event_counts
from tests.support.upstream_server import open_upstream
from tests.support.world import DELEGATE, IDENTITY
from tests.system.test_feedback import BOUNCE, JANE, bring, sent
from tests.system.test_recipients import BAD, BUSY, GONE_REPLY, GOOD, as_named, try_all
from tests.system.test_refused_in_part import journal_of, relaying

BAD_TOO = "bad2@example.net"


async def counts(gate: Gate) -> EventCounts:
    now = gate.clock.now()
    asked = EventQuery(grain=Grain.DAY, since=now, until=now, account_id=DELEGATE)
    return await event_counts(journal_of(gate).store, asked)


async def events(gate: Gate, reply: str) -> list[KeptEvent]:
    """The events of the message that a reply names."""
    (message_id,) = re.findall(r"0100[0-9a-f-]{56}", reply)
    return list(await events_of(journal_of(gate).store, message_id))


@pytest.mark.parametrize("sections", ["", "[outbox]\nenabled = false\n"], ids=["", "no outbox"])
async def test_a_message_refused_for_all_its_recipients_counts_as_their_bounces(
    tmp_path: Path, sections: str
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, sections=sections) as (gate, _),
    ):
        upstream.answers["RCPT"] = as_named
        *_, verdict = await try_all(await login(gate), BAD, BAD_TOO)
        assert verdict.startswith("550 5.1.1")
        assert await counts(gate) == EventCounts(hard_bounces=2, refused=2)
        found = await events(gate, verdict)
        assert [one.is_refusal for one in found] == [True, True]
        assert {one.recipients[0].address for one in found} == {BAD, BAD_TOO}
        assert found[0].recipients[0].diagnostic == f"smtp; {GONE_REPLY}"
        assert found[0].identity == IDENTITY


async def test_a_message_that_may_be_tried_again_counts_as_no_bounce(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, _):
        assert (await try_all(await login(gate), BAD, BUSY))[-1].startswith("451")
        assert await counts(gate) == EventCounts()


async def test_recipients_of_a_message_in_part_that_is_deferred_count_as_no_bounce(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        upstream.answers["MESSAGE"] = "452 4.3.1 disk full"
        *_, verdict = await try_all(await login(gate), GOOD, BAD)
        assert verdict.startswith("452")
        assert await events(gate, verdict) == []
        assert await counts(gate) == EventCounts()
        upstream.answers["MESSAGE"] = "554 5.6.0 content refused"
        *_, verdict = await try_all(await login(gate), GOOD, BAD)
        assert verdict.startswith("554")
        assert {one.recipients[0].address for one in await events(gate, verdict)} == {GOOD, BAD}
        assert (await counts(gate)).refused == 2


async def test_recipients_refused_beside_others_are_kept_without_a_subscriber(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as (gate, _):
        *_, verdict = await try_all(await login(gate), GOOD, BAD, sender="")
        assert verdict.startswith("250")
        (one,) = await events(gate, verdict)
        assert (one.kind, one.recipients[0].address, one.is_hard) == ("Bounce", BAD, True)
        assert not one.is_refusal
        assert await counts(gate) == EventCounts(hard_bounces=1)


async def test_a_report_that_comes_back_is_kept_once(tmp_path: Path) -> None:
    async with sent(tmp_path) as (gate, _, path):
        report = BOUNCE.format(path=path, recipient=JANE)
        for _ in range(2):
            assert (await bring(gate, report, path)).startswith("250")
        assert await counts(gate) == EventCounts(hard_bounces=1)
