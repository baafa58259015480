"""Suppressed and simulated recipients, through whole gates: accepted, reported, not sent."""

import json
import re
from pathlib import Path

import pytest

from smtpgate.admin import notifications, suppression
from smtpgate.admin.errors import NotFoundError
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.record import Record
from smtpgate.core.history.story import story_of
from smtpgate.core.history.usage import Grain
from smtpgate.core.limits import Subject
from smtpgate.core.notification.settings import NOTIFICATION_KINDS
from smtpgate.core.suppression.lists import SuppressedAddress
from smtpgate.directory.live import LiveDirectory
from smtpgate.gate.gate import Gate
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.usage_query import UsageQuery, usage_rows
from smtpgate.ports import DirectoryUnavailableError
from tests.support.inprocess import login, open_gate
from tests.support.ledgers import used_24h
from tests.support.notifications import must_fit
from tests.support.outbox import states
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.waiting import answered, until
from tests.support.world import DELEGATE, OWNER
from tests.system.test_event_delivery import (
    OWN_IDENTITY,
    THEIRS,
    Receiver,
    make_topics,
    publishing,
    session_of,
    subscribe,
)
from tests.system.test_events_kept import counts
from tests.system.test_recipients import BAD, GOOD, try_all
from tests.system.test_refused_in_part import groups, journal_of, relaying, reports_in

pytestmark = pytest.mark.slow

ACCOUNT = Subject(DELEGATE)
JANE = "jane@example.org"
SIMULATED = "simulator.amazonses.com"


async def suppress(gate: Gate, address: str, account_id: str = DELEGATE) -> None:
    await suppression.put(session_of(gate), account_id, address, "BOUNCE")
    await gate.directory.catch_up()


async def listed(
    gate: Gate, address: str, account_id: str = DELEGATE
) -> SuppressedAddress | None:
    try:
        return await suppression.get(session_of(gate), account_id, address)
    except NotFoundError:
        return None


async def send(gate: Gate, *recipients: str, sender: str = "marketing@ses-example.com") -> str:
    *replies, verdict = await try_all(await login(gate), *recipients, sender=sender)
    assert all(reply.startswith("250") for reply in replies)
    return verdict


def sent_to(upstream: UpstreamServer) -> list[str]:
    """The recipients at the upstream, of all messages."""
    commands = [command for visit in upstream.visits for command in visit.commands]
    return [address for one in commands for address in re.findall(r"RCPT TO:<(.+?)>", one)]


async def record_of(gate: Gate, verdict: str) -> Record:
    (message_id,) = re.findall(r"0100[0-9a-f-]{56}", verdict)
    store = journal_of(gate).store
    record = await JournalReader(store, store.key()).get(message_id)
    assert record is not None
    return record


async def usage_of_delegate(gate: Gate) -> int:
    """The recipients in the usage of the delegate, by which its rates are divided."""
    now = gate.clock.now()
    asked = UsageQuery(grain=Grain.DAY, since=now, until=now, account_id=DELEGATE)
    rows = await usage_rows(journal_of(gate).store, asked)
    return sum(row.counts.recipients for row in rows)


async def notified(gate: Gate, receiver: Receiver) -> None:
    """Have the delegate notified of everything at a webhook."""
    await make_topics(gate)
    await subscribe(gate, THEIRS, "raw", f"{receiver.url}/delegate")
    topics = dict.fromkeys(NOTIFICATION_KINDS, "ours")
    await notifications.update(session_of(gate), OWN_IDENTITY, DELEGATE, topics=topics)
    await gate.directory.catch_up()


async def test_the_others_get_the_message_and_a_suppressed_recipient_bounces(
    tmp_path: Path,
) -> None:
    async with publishing(tmp_path) as (gate, upstream, receiver):
        await notified(gate, receiver)
        await suppress(gate, JANE)
        verdict = await send(gate, GOOD, JANE.upper())
        assert verdict.startswith("250")
        await until(lambda: len(receiver.calls) == 1 and len(upstream.messages) == 2)
        assert sent_to(upstream)[0] == GOOD
        ((_, shown),) = receiver.calls
        must_fit("notification", json.dumps(shown))
        bounce = shown["bounce"]
        assert (bounce["bounceType"], bounce["bounceSubType"]) == (
            "Permanent",
            "OnAccountSuppressionList",
        )
        (one,) = bounce["bouncedRecipients"]
        assert (one["action"], one["status"]) == ("failed", "5.1.1")
        (report,) = reports_in(upstream)
        assert groups(report)[1]["Status"] == "5.1.1"
        # As with SES they are charged, and in no rate.
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 2
        assert await usage_of_delegate(gate) == 1
        assert await counts(gate) == EventCounts(uncounted=1)


async def test_a_message_whose_recipients_are_all_suppressed_goes_nowhere(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        await suppress(gate, JANE)
        verdict = await send(gate, JANE, sender="")
        assert verdict.startswith("250")
        record = await record_of(gate, verdict)
        assert (record.outcome, record.upstream) == ("accepted", None)
        story = str(story_of(record, gate.clock.now()))
        assert f"{JANE}: on the suppression list, so it bounced" in story
        assert "Nothing was sent to the upstream." in story
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 1
        assert upstream.messages == []
        assert await states(journal_of(gate)) == []


async def test_a_message_may_have_recipients_of_every_kind(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        await suppress(gate, JANE)
        verdict = await send(gate, GOOD, BAD, JANE, f"success@{SIMULATED}", sender="")
        assert verdict.startswith("250")
        record = await record_of(gate, verdict)
        assert [one.address for one in record.refused] == [BAD]
        assert [one.outcome for one in record.withheld] == ["suppressed", "simulated delivery"]
        assert sent_to(upstream) == [GOOD, BAD]
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 2
        assert await counts(gate) == EventCounts(hard_bounces=1, uncounted=2)


async def test_a_list_that_cannot_be_asked_defers_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> None:
        raise DirectoryUnavailableError("gone")

    async with relaying(tmp_path) as (gate, upstream):
        await suppress(gate, JANE)
        monkeypatch.setattr(LiveDirectory, "suppressed", unavailable)
        assert (await try_all(await login(gate), GOOD))[-1].startswith("451 4.3.0")
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 0
        assert sent_to(upstream) == []


async def test_a_removed_address_gets_mail_again_in_the_same_session(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        await suppress(gate, GOOD)
        dialog = await login(gate)
        assert (await try_all(dialog, GOOD))[-1].startswith("250")
        assert GOOD not in sent_to(upstream)
        await suppression.remove(session_of(gate), DELEGATE, GOOD)
        await gate.directory.catch_up()
        assert (await try_all(dialog, GOOD))[-1].startswith("250")
        assert GOOD in sent_to(upstream)


async def test_only_the_reasons_of_the_account_suppress(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        await suppress(gate, GOOD)
        await suppression.set_reasons(session_of(gate), DELEGATE, ("COMPLAINT",))
        await gate.directory.catch_up()
        assert (await send(gate, GOOD)).startswith("250")
        assert len(upstream.messages) == 1


@pytest.mark.parametrize("for_delegates", [False, True])
async def test_the_list_of_the_owner_is_for_delegates_where_the_owner_says_so(
    tmp_path: Path, for_delegates: bool
) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        await suppress(gate, JANE, OWNER)
        await suppression.set_for_delegates(
            session_of(gate), OWN_IDENTITY, suppresses_delegates=for_delegates
        )
        await gate.directory.catch_up()
        verdict = await send(gate, JANE, sender="")
        record = await record_of(gate, verdict)
        assert bool(record.withheld) == for_delegates
        assert len(upstream.messages) == (0 if for_delegates else 1)


@pytest.mark.parametrize("for_delegates", [False, True])
async def test_a_refused_recipient_is_put_on_the_lists(
    tmp_path: Path, for_delegates: bool
) -> None:
    async with relaying(tmp_path) as (gate, _):
        await suppression.set_for_delegates(
            session_of(gate), OWN_IDENTITY, suppresses_delegates=for_delegates
        )
        await gate.directory.catch_up()
        verdict = await send(gate, GOOD, BAD, sender="")
        entry = await answered(lambda: listed(gate, BAD))
        assert entry is not None
        record = await record_of(gate, verdict)
        assert (entry.reason, entry.message_id) == ("BOUNCE", record.id)
        assert await listed(gate, GOOD) is None
        assert (await listed(gate, BAD, OWNER) is not None) == for_delegates


async def test_a_recipient_for_which_the_whole_message_is_refused_is_too(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        assert (await try_all(await login(gate), BAD))[-1].startswith("550")
        assert await answered(lambda: listed(gate, BAD))
        await gate.directory.catch_up()
        assert (await send(gate, BAD, sender="")).startswith("250")
        assert upstream.messages == []
        assert await states(journal_of(gate), "'mail'") == []


async def test_an_account_that_wants_no_bounces_gets_none_on_its_list(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, _):
        await suppression.set_reasons(session_of(gate), DELEGATE, ())
        await gate.directory.catch_up()
        assert (await send(gate, GOOD, BAD, sender="")).startswith("250")
        assert await states(journal_of(gate)) == []


# -- the mailbox simulator ---------------------------------------------------------------------

SUBTYPES = {"bounce": "General", "suppressionlist": "Suppressed"}


MAILBOXES = {
    "success": ["Delivery"],
    "bounce+label": ["Bounce"],
    "suppressionlist": ["Bounce"],
    "complaint": ["Complaint", "Delivery"],
}


async def received(receiver: Receiver, number: int) -> None:
    await until(lambda: len(receiver.calls) == number)


async def test_a_simulated_mailbox_has_its_events(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (gate, upstream, receiver):
        await notified(gate, receiver)
        events = 0
        for mailbox, kinds in MAILBOXES.items():
            verdict = await send(gate, f"{mailbox}@{SIMULATED}")
            assert verdict.startswith("250")
            await received(receiver, events + len(kinds))
            shown = {body["notificationType"]: body for _, body in receiver.calls[events:]}
            events += len(kinds)
            assert sorted(shown) == kinds, mailbox
            for body in shown.values():
                must_fit("notification", json.dumps(body))
            if "Bounce" in kinds:
                subtype = SUBTYPES[mailbox.partition("+")[0]]
                assert shown["Bounce"]["bounce"]["bounceSubType"] == subtype
            # Neither the daily quota nor any rate counts them, and nobody is put on a list.
            assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 0
            assert await counts(gate) == EventCounts(uncounted=events)
            assert await usage_of_delegate(gate) == 0
            assert await states(journal_of(gate), "'list'") == []
            assert SIMULATED not in "".join(sent_to(upstream))
            record = await record_of(gate, verdict)
            assert "of the mailbox simulator" in str(story_of(record, gate.clock.now()))


async def test_a_simulated_mailbox_whose_owner_is_away_answers(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        assert (await send(gate, GOOD, f"ooto@{SIMULATED}")).startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        assert sent_to(upstream) == [GOOD, "marketing@ses-example.com"]
        answer = upstream.messages[1].decode()
        assert "Auto-Submitted: auto-replied" in answer
        assert f"The mailbox ooto@{SIMULATED} answers" in answer


async def test_a_simulator_that_is_off_is_no_other_domain(tmp_path: Path) -> None:
    off = "[simulator]\nenabled = false\n"
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, sections=off) as (gate, _),
    ):
        assert (await send(gate, f"bounce@{SIMULATED}")).startswith("250")
        assert sent_to(upstream) == [f"bounce@{SIMULATED}"]
