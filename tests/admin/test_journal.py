"""The journal as the use cases show it: to an operator, and to each account its own view."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from msgspec import structs

from smtpgate.admin import journal, key_watch
from smtpgate.admin.errors import (
    AmbiguousIdError,
    InvalidQuestionError,
    NotAuthorizedError,
    NotFoundError,
)
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.session import OPERATOR, Operator
from smtpgate.core.account import Principal
from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.history.usage import Grain
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.tasks import TaskOwner
from tests.support.admin import allow, config, root, user
from tests.support.clock import MovableClock
from tests.support.journal import journal_in, open_journal, submission
from tests.support.world import DELEGATE, OWNER, PAUSED

SEE: Final = allow("ses:GetMessageInsights", "ses:GetSendStatistics")


@pytest.fixture
async def written(tmp_path: Path, clock: MovableClock) -> AsyncIterator[LiveJournal]:
    """An open journal."""
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as opened:
        yield opened


def session(
    opened: LiveJournal, clock: MovableClock, caller: Operator | Principal = OPERATOR
) -> JournalSession:
    """A session in that journal."""
    reader = JournalReader(opened.store, opened.store.key())
    return JournalSession(config=config(), clock=clock, caller=caller, reader=reader)


async def finish(opened: LiveJournal, clock: MovableClock, *ends: str) -> list[str]:
    """Messages of the delegate with the owner's identity, a minute apart; their ids."""
    ids = []
    for end in ends:
        event = submission(
            clock, *(("accepted",) * 2 if end == "accepted" else ("refused", end))
        )
        await opened.finish(event)
        ids.append(event.submission.message_id)
        clock.move(60)
    return ids


async def found(opened: JournalSession, wanted: Search, **how: int) -> list[Record]:
    return [one async for page in journal.search(opened, wanted, **how) for one in page]


async def test_a_caller_of_an_account_sees_its_own_view_without_asking_for_it(
    written: LiveJournal, clock: MovableClock
) -> None:
    (message,) = await finish(written, clock, "implicit-deny")
    views = {}
    for caller in (OPERATOR, root(OWNER), root(DELEGATE), user(SEE), root(PAUSED)):
        records = await found(session(written, clock, caller), Search())
        views[caller] = [(one.id, one.username, one.tags) for one in records]
    operators, owners, delegates, owners_user, others = views.values()
    assert [one[0] for one in operators] == [one[0] for one in owners] == [message]
    assert delegates == operators
    assert owners == owners_user != operators
    assert owners[0][1:] == ("", ())
    assert others == []


async def test_a_caller_cannot_see_another_account_s_view(
    written: LiveJournal, clock: MovableClock
) -> None:
    with pytest.raises(NotAuthorizedError):
        await found(session(written, clock, root(OWNER)), Search(account_id=DELEGATE))


async def test_the_beginning_of_an_id_names_a_message_if_it_is_the_only_one(
    written: LiveJournal, clock: MovableClock
) -> None:
    first, second = await finish(written, clock, "accepted", "explicit-deny")
    asked = session(written, clock)
    assert (await journal.get(asked, first)).id == first
    assert (await journal.get(asked, f" {second[:16].upper()} ")).id == second
    with pytest.raises(AmbiguousIdError) as refused:
        await journal.get(asked, first[:5])
    assert refused.value.candidates == (second, first)
    assert first in str(refused.value)
    with pytest.raises(NotFoundError, match="it keeps 30 days at most"):
        await journal.get(asked, "0100ff")


async def test_of_many_candidates_the_newest_are_listed(
    written: LiveJournal, clock: MovableClock
) -> None:
    ids = await finish(written, clock, *["accepted"] * 12)
    with pytest.raises(AmbiguousIdError, match="and of more, which are older") as refused:
        await journal.get(session(written, clock), "01")
    assert list(refused.value.candidates) == ids[:1:-1]


async def test_messages_of_others_are_no_candidates(
    written: LiveJournal, clock: MovableClock
) -> None:
    (message,) = await finish(written, clock, "accepted")
    other = submission(
        clock, account=PAUSED, identity=f"arn:aws:ses:us-east-1:{PAUSED}:identity/x"
    )
    await written.finish(other)
    clock.move(60)
    for caller in (root(OWNER), root(DELEGATE)):
        assert (await journal.get(session(written, clock, caller), "0100")).id == message
    seen = await journal.get(session(written, clock, root(PAUSED)), "0100")
    assert seen.id == other.submission.message_id
    with pytest.raises(NotFoundError):
        await journal.get(session(written, clock, root("123456789012")), "0100")


async def test_each_message_is_followed_once_it_has_its_verdict(
    written: LiveJournal, clock: MovableClock
) -> None:
    seen: list[str] = []
    has_paused, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        has_paused.set()
        await go_on.wait()
        go_on.clear()

    async def collect() -> None:
        wanted = Search(reason="implicit-deny")
        async for record in journal.follow(session(written, clock), wanted, pause):
            seen.append(record.id)  # noqa: PERF401 - it has no end

    await finish(written, clock, "implicit-deny")
    tasks = TaskOwner()
    _ = tasks.start(collect())
    await has_paused.wait()
    _, refused = await finish(written, clock, "accepted", "implicit-deny")
    has_paused.clear()
    go_on.set()
    await has_paused.wait()
    tasks.cancel()
    await tasks.drain(1)
    assert seen == [refused]


async def test_usage_of_a_long_time_is_added_up_by_day(
    written: LiveJournal, clock: MovableClock
) -> None:
    await finish(written, clock, "accepted", "accepted")
    asked, now = session(written, clock, root(OWNER)), clock.now()
    short = await journal.usage(asked, since=now - timedelta(hours=1))
    long = await journal.usage(asked, since=now - timedelta(days=3))
    assert (short.grain, long.grain) == (Grain.POINT, Grain.DAY)
    assert sum(row.counts.messages for row in long.sent_by_others) == 2
    assert long.sent == []
    asked = session(written, clock, root(DELEGATE))
    long = await journal.usage(asked, since=now - timedelta(days=3))
    assert sum(row.counts.messages for row in long.sent) == 2
    assert long.sent_by_others == []


async def test_usage_has_no_future(written: LiveJournal, clock: MovableClock) -> None:
    with pytest.raises(InvalidQuestionError, match="in the future"):
        await journal.usage(session(written, clock), since=clock.now() + timedelta(days=1))


async def test_a_replay_shows_what_the_watch_over_keys_would_have_reported(
    written: LiveJournal, clock: MovableClock
) -> None:
    for _ in range(9):  # days
        for _ in range(4):
            await written.finish(submission(clock, recipients=2))
            clock.move(600)
        clock.move(86_400 - 2_400)
    moved = submission(clock, recipients=2)
    client = structs.replace(moved.submission.client, address="203.0.113.9")
    moved.submission = structs.replace(moved.submission, client=client)
    await written.finish(moved)
    opened = session(written, clock)
    (report,) = [one async for page in key_watch.replay(opened) for one in page]
    assert report.message_id == moved.submission.message_id
    assert (report.assessment.level, report.assessment.signals) == ("notice", ("network",))
    late = key_watch.replay(opened, since=clock.now() - timedelta(days=3))
    assert [one async for page in late for one in page] == []
    other = key_watch.replay(opened, key_id="AKIA9999MAILER000001")
    assert [one async for page in other for one in page] == []


async def test_records_are_read_in_their_order(
    written: LiveJournal, clock: MovableClock
) -> None:
    ids = await finish(written, clock, *["accepted"] * 205)
    reader = session(written, clock).reader
    found = [record.id async for page in reader.in_order() for record in page]
    assert found == ids
    since = clock.now() - timedelta(minutes=2)
    assert [one.id async for page in reader.in_order(since) for one in page] == ids[-2:]
