"""Makes events in a journal, and delivers them, until the process is killed.

``python -m tests.support.outbox_worker URL FOLDER LOG [only-deliver]``. Each line of LOG is
written at once: ``R MESSAGE TASK`` before a refusal is noted, ``T MESSAGE OUTCOME`` when the
client would have got its verdict, ``A TASK NUMBER`` when the destination has an event. With
``only-deliver`` it ends when nothing waits.
"""

import asyncio
import os
import sys
from pathlib import Path
from random import random
from typing import Final

from smtpgate.clock import SystemClock
from smtpgate.config.sections import OutboxConfig
from smtpgate.core.outbox.event import SendDetail
from smtpgate.core.outbox.task import Carried, LeasedTask, Result, TryAgain
from smtpgate.journal.live import LiveJournal
from smtpgate.outbox.sender import OutboxSender
from tests.support.journal import open_journal, submission
from tests.support.outbox import HOOK, OTHER, queue_of, task

_AT_ONCE: Final = 16
_CLOCK: Final = SystemClock()


class Destinations:
    """Destinations that note what arrives; one attempt in twenty fails."""

    def __init__(self, log: int) -> None:
        self._log = log

    async def carry(self, leased: LeasedTask) -> Result:
        """Note the event, or fail."""
        await asyncio.sleep(0)
        if random() < 0.05:
            return TryAgain("not now")
        os.write(self._log, f"A {leased.task.id} {leased.number}\n".encode())
        return Carried()


async def _work(journal: LiveJournal, sender: OutboxSender, log: int, number: int) -> None:
    while True:
        number += 1
        outcome = "deferred" if number % 4 == 0 else "accepted"
        reason = "accepted" if outcome == "accepted" else "upstream-unreachable"
        event = submission(_CLOCK, outcome, reason, recipients=2)
        message_id = event.submission.message_id
        await journal.begin(event)
        bounced, sent = task(event, HOOK), task(event, OTHER, SendDetail())
        os.write(log, f"R {message_id} {bounced.id}\n".encode())
        await journal.note([bounced], [bounced.event])
        await asyncio.sleep(0)
        if outcome == "accepted":
            event.tasks, event.events = (bounced, sent), (bounced.event,)
            os.write(log, f"R {message_id} {sent.id}\n".encode())
        else:
            event.tasks = event.events = ()
        await journal.finish(event)
        os.write(log, f"T {message_id} {outcome}\n".encode())
        sender.wake()


def _note_error(log: int, error: BaseException) -> None:
    os.write(log, f"E {error!r}\n".encode())


async def _main(url: str, folder: str, log_file: str, *only_deliver: str) -> None:
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with open_journal(url, Path(folder), clock=_CLOCK) as journal:
        sender = OutboxSender(
            queue_of(journal),
            {"webhook": Destinations(log)},
            OutboxConfig(timeout_s=1),
            mail_timeout_s=1,
            clock=_CLOCK,
            events=journal._events,
            random=lambda: 0.0,
            on_error=lambda error: _note_error(log, error),
        )
        delivering = asyncio.create_task(sender.run())
        if not only_deliver:
            works = (_work(journal, sender, log, number) for number in range(_AT_ONCE))
            await asyncio.gather(*works)
        while await sender.queue.lanes():
            sender.wake()
            await asyncio.sleep(0.1)
        await sender.stop()
        await delivering


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
