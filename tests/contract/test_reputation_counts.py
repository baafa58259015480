"""The mail of senders by days, from the journal's sums, on SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text

from smtpgate.core.events import SubmissionDone
from smtpgate.core.feedback.kinds import MAILBOX_FULL, NO_EMAIL, ON_ACCOUNT_LIST, BounceKind
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    Detail,
    EventRecipient,
    sending_event,
)
from smtpgate.core.outbox.mail import sent_mail
from smtpgate.core.reputation.sender import RatedMail, RatedSender
from smtpgate.core.reputation.volume import Day
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reputation_query import JournalReputationCounts
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.journal import Received, open_journal, retention_of, submission
from tests.support.outbox import queue_of
from tests.support.world import DELEGATE, IDENTITY, OWNER, REGION

ACCOUNT: Final = RatedSender.account(DELEGATE)
ON_IDENTITY: Final = RatedSender.delegate(DELEGATE, OWNER, "ses-example.com")
SET: Final = RatedSender.with_set(DELEGATE, "spring")
OTHERS: Final = "arn:aws:ses:us-east-1:777777777777:identity/example.org"
HARD: Final = BounceDetail(NO_EMAIL)
COMPLAINT: Final = ComplaintDetail("", "abuse")


class Kept:
    """A journal, and the counts in it."""

    def __init__(self, journal: LiveJournal, clock: MovableClock) -> None:
        self.journal, self.clock = journal, clock
        self.counts = JournalReputationCounts(journal.store, partition="aws", region=REGION)

    async def sent(
        self,
        *details: Detail,
        recipients: int = 1,
        identity: str = IDENTITY,
        configuration_set: str = "",
        is_refused: bool = False,
    ) -> SubmissionDone:
        """A message, and an event about one recipient for each detail."""
        end = ("refused", "upstream-reply") if is_refused else ("accepted", "accepted")
        done = submission(self.clock, *end, recipients=recipients, identity=identity)
        done.configuration_set = configuration_set
        mail = sent_mail(done.submission, identity, None, None, configuration_set)
        await self.journal.finish(done)
        events = [
            sending_event(
                self.clock.now(), mail, [EventRecipient(f"jane{at}@example.net")], detail
            )
            for at, detail in enumerate(details)
        ]
        await queue_of(self.journal).add([], events)
        return done

    async def days(self, sender: RatedSender, since: datetime | None = None) -> list[Day]:
        """The days of a sender; by default of a month."""
        now = self.clock.now()
        found = await self.counts.days(sender, since or now - timedelta(days=30), now)
        return sorted(found, key=lambda day: day.start)


@pytest.fixture
async def kept(
    databases: Databases, tmp_path: Path, clock: MovableClock
) -> AsyncIterator[Kept]:
    received = Received()
    url = databases.for_journal()
    async with open_journal(url, tmp_path, clock=clock, received=received) as journal:
        yield Kept(journal, clock)
    assert not received.errors


def midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


async def test_hard_bounces_and_complaints_count_and_others_do_not(kept: Kept) -> None:
    await kept.sent(HARD, HARD, COMPLAINT, recipients=10)
    others: list[BounceKind] = [MAILBOX_FULL, ON_ACCOUNT_LIST]
    await kept.sent(*map(BounceDetail, others), recipients=5)
    today = Day(midnight(kept.clock.now()), 15, 2, 1)
    assert await kept.days(ACCOUNT) == [today]
    assert await kept.days(ON_IDENTITY) == [today]
    assert await kept.days(SET) == []
    assert await kept.days(RatedSender.account(OWNER)) == []


async def test_a_message_that_was_refused_as_a_whole_was_tried(kept: Kept) -> None:
    await kept.sent(recipients=3)
    await kept.sent(BounceDetail(NO_EMAIL, is_refusal=True), is_refused=True)
    assert await kept.days(ACCOUNT) == [Day(midnight(kept.clock.now()), 4, 1, 0)]


async def test_delegated_mail_counts_for_the_account_and_on_its_identity(kept: Kept) -> None:
    await kept.sent(HARD, recipients=2)
    await kept.sent(COMPLAINT, recipients=4, identity=OTHERS)
    today = midnight(kept.clock.now())
    assert await kept.days(ACCOUNT) == [Day(today, 6, 1, 1)]
    assert await kept.days(ON_IDENTITY) == [Day(today, 2, 1, 0)]
    of_other = RatedSender.delegate(DELEGATE, "777777777777", "example.org")
    assert await kept.days(of_other) == [Day(today, 4, 0, 1)]


async def test_mail_with_a_configuration_set_counts_for_it(kept: Kept) -> None:
    await kept.sent(HARD, recipients=2, configuration_set="spring")
    await kept.sent(HARD, recipients=3, configuration_set="autumn")
    await kept.sent(recipients=5, configuration_set="spring", is_refused=True)
    kept.clock.move(86_400)
    await kept.sent(COMPLAINT, recipients=4, configuration_set="spring")
    today = midnight(kept.clock.now())
    assert await kept.days(SET) == [
        Day(today - timedelta(days=1), 2, 1, 0),
        Day(today, 4, 0, 1),
    ]


async def test_a_verdict_that_is_written_twice_counts_once(kept: Kept) -> None:
    done = await kept.sent(recipients=2, configuration_set="spring")
    done.may_be_recorded = True
    await kept.journal.finish(done)
    today = midnight(kept.clock.now())
    assert await kept.days(SET) == [Day(today, 2, 0, 0)]
    assert await kept.days(ACCOUNT) == [Day(today, 2, 0, 0)]


async def test_what_was_sent_before_a_fresh_start_does_not_count(kept: Kept) -> None:
    for recipients in (1, 2, 4, 8):
        await kept.sent(HARD, recipients=recipients, configuration_set="spring")
        kept.clock.move(900)
    start = midnight(kept.clock.now())
    # Within a quarter of an hour: the next one is the first that counts.
    since = kept.clock.now() - timedelta(seconds=3_000)
    for sender in (ACCOUNT, SET):
        assert await kept.days(sender, since) == [Day(start, 14, 3, 0)]
        assert await kept.days(sender, start) == [Day(start, 15, 4, 0)]
        assert await kept.days(sender, kept.clock.now()) == []
    kept.clock.move(86_400)
    await kept.sent(recipients=16)
    assert await kept.days(ACCOUNT, since) == [
        Day(start, 14, 3, 0),
        Day(start + timedelta(days=1), 16, 0, 0),
    ]


async def test_the_mail_with_trouble_is_found_by_its_time(kept: Kept) -> None:
    await kept.sent(HARD, configuration_set="spring")
    await kept.sent(BounceDetail(MAILBOX_FULL), identity=OTHERS)
    kept.clock.move(86_400)
    await kept.sent(COMPLAINT, HARD, identity="")
    await kept.sent(COMPLAINT, identity=IDENTITY.replace("us-east-1", "eu-west-1"))
    now = kept.clock.now()
    whole = RatedMail(DELEGATE, OWNER, "ses-example.com", "spring")
    # Of an identity of another region nothing is known here but that the account sent it.
    account = RatedMail(DELEGATE, "", "", "")
    assert await kept.counts.troubled(now - timedelta(days=30), now) == {whole: 1, account: 3}
    assert await kept.counts.troubled(now, now) == {account: 3}
    assert list(whole.senders()) == [ACCOUNT, SET, ON_IDENTITY]
    assert list(account.senders()) == [ACCOUNT]


async def test_the_delegates_of_an_identity_are_those_that_sent_by_it(kept: Kept) -> None:
    await kept.sent()
    now = kept.clock.now()
    since = now - timedelta(days=30)
    assert await kept.counts.delegates(OWNER, "ses-example.com", since, now) == [DELEGATE]
    assert await kept.counts.delegates(OWNER, "other.example", since, now) == []
    assert await kept.counts.delegates(DELEGATE, "ses-example.com", since, now) == []
    kept.clock.move(40 * 86_400)
    later = kept.clock.now()
    since = later - timedelta(days=30)
    assert await kept.counts.delegates(OWNER, "ses-example.com", since, later) == []


async def test_the_sums_of_sets_are_forgotten_with_those_of_accounts(kept: Kept) -> None:
    await kept.sent(configuration_set="spring")

    async def rows() -> list[tuple[int, int]]:
        async with kept.journal.store.reading() as connection:
            found = await connection.execute(
                text("SELECT grain, recipients FROM journal_set_usage ORDER BY grain")
            )
            return [(row[0], row[1]) for row in found]

    assert await rows() == [(15, 1), (1440, 1)]
    kept.clock.move(15 * 86_400)
    await retention_of(kept.journal, kept.clock).round()
    assert await rows() == [(1440, 1)]
    kept.clock.move(390 * 86_400)
    await retention_of(kept.journal, kept.clock).round()
    assert await rows() == []
