"""Keeps submissions in a journal until the process is killed, and notes the verdicts.

``python -m tests.support.journal_worker URL FOLDER LOG``. Each line of LOG is written at once,
before the next step: ``U ID`` when the upstream would have the message, ``T ID OUTCOME`` when
the client would have got its verdict.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from smtpgate.clock import SystemClock
from smtpgate.journal.live import LiveJournal
from tests.support.journal import open_journal, submission

_AT_ONCE: Final = 16
_CLOCK: Final = SystemClock()


async def _work(journal: LiveJournal, log: int, number: int) -> None:
    while True:
        number += 1
        is_refused = number % 4 == 0
        event = submission(
            _CLOCK, *(("refused", "implicit-deny") if is_refused else ("accepted", "accepted"))
        )
        message_id = event.submission.message_id
        if not is_refused:
            await journal.begin(event)
            os.write(log, f"U {message_id}\n".encode())
            await asyncio.sleep(0)
        await journal.finish(event)
        os.write(log, f"T {message_id} {event.outcome}\n".encode())


async def _main(url: str, folder: str, log_file: str) -> None:
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with open_journal(url, Path(folder), clock=_CLOCK) as journal:
        await asyncio.gather(*(_work(journal, log, number) for number in range(_AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
