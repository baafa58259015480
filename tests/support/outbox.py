"""Events, tasks and carriers for the tests of the outbox."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from smtpgate.config.sections import OutboxConfig
from smtpgate.core.events import SubmissionDone
from smtpgate.core.feedback.kinds import BounceKind
from smtpgate.core.outbox.event import (
    BounceDetail,
    Detail,
    EventRecipient,
    SendingEvent,
    sending_event,
)
from smtpgate.core.outbox.mail import sent_mail
from smtpgate.core.outbox.task import Carried, Destination, LeasedTask, Result, Task
from smtpgate.journal.live import LiveJournal
from smtpgate.outbox.queue import TaskQueue
from smtpgate.outbox.sender import OutboxSender
from smtpgate.ports import Clock
from tests.support.world import OWNER

HOOK: Final = Destination("webhook", "arn:aws:sns:us-east-1:888888888888:bounces:1", OWNER)
OTHER: Final = Destination("webhook", "arn:aws:sns:us-east-1:888888888888:bounces:2", OWNER)
RETURN_PATH: Final = Destination("mail", "marketing@ses-example.com")
BOUNCE: Final = BounceDetail(BounceKind("Permanent", "NoEmail"))


def task(
    done: SubmissionDone,
    destination: Destination = HOOK,
    detail: Detail = BOUNCE,
    address: str = "jane0@example.net",
) -> Task:
    """The task of an event about a recipient of a submission."""
    mail = sent_mail(done.submission, done.from_identity, None)
    at = done.submission.received_at
    recipient = EventRecipient(address, "failed", "5.1.1", "smtp; 550 5.1.1 no such user")
    return Task(sending_event(at, mail, [recipient], detail), destination)


def event_about(
    done: SubmissionDone,
    detail: Detail = BOUNCE,
    *addresses: str,
    at: datetime | None = None,
    configuration_set: str = "",
) -> SendingEvent:
    """An event about recipients of a submission."""
    mail = sent_mail(done.submission, done.from_identity, None, None, configuration_set)
    known = [
        EventRecipient(one, "failed", "5.1.1", f"smtp; 550 5.1.1 <{one}> unknown")
        for one in addresses or ("jane@example.net",)
    ]
    return sending_event(at or done.submission.received_at, mail, known, detail)


def queue_of(journal: LiveJournal) -> TaskQueue:
    """The queue beside a journal."""
    return TaskQueue(journal.writer.run, journal.store, lambda: journal.number)


class Destinations:
    """A carrier that answers as it is set to, and remembers what came."""

    def __init__(self, answer: Callable[[LeasedTask], Result] | None = None) -> None:
        self.answer = answer or (lambda _: Carried("250 OK"))
        self.came: Counter[str] = Counter()
        self.slow: set[str] = set()
        self.most = 0
        self._now = 0
        self.released = asyncio.Event()

    async def carry(self, leased: LeasedTask) -> Result:
        """Note the task, and answer; a slow destination answers when it is released."""
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            if leased.task.destination.name in self.slow:
                await self.released.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self._now -= 1
        self.came[leased.task.id] += 1
        return self.answer(leased)


def sender_of(
    journal: LiveJournal,
    carrier: Destinations,
    clock: Clock,
    settings: OutboxConfig | None = None,
    errors: list[BaseException] | None = None,
) -> OutboxSender:
    """A sender over the journal's queue, not running yet."""
    return OutboxSender(
        queue_of(journal),
        {"webhook": carrier, "mail": carrier},
        settings or OutboxConfig(),
        mail_timeout_s=245,
        clock=clock,
        events=journal._events,
        random=lambda: 0.5,
        on_error=(errors if errors is not None else list[BaseException]()).append,
    )


async def states(
    journal: LiveJournal, kinds: str = "'mail', 'webhook', 'list'"
) -> Sequence[tuple[str, str]]:
    """The id and the state of every task to such destinations, in the order of ids."""
    query = f"SELECT id, state FROM journal_tasks WHERE destination_kind IN ({kinds})"
    async with journal.store.reading() as connection:
        found = await connection.exec_driver_sql(query)
        return sorted((str(row.id), str(row.state)) for row in found)
