"""A process that reserves and settles until it is killed, and writes down the answers.

``python -m tests.support.ledger_worker PLACE LOG SEED``: PLACE is the path of a SQLite file or
the URL of a Redis. Each line of LOG is written at once, before the next step: ``R ID N`` when N
recipients were reserved, ``S ID A`` before A of them are committed, ``D ID`` when that is done.
"""

import asyncio
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.ledger.redis import RedisLedger
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ports import Ledger, LedgerUnavailableError

LEASE_S: Final = 86_400
SUBJECTS: Final = (Subject("999999999999"), Subject("999999999999", "user", "mailer"))
_CHARGES: Final = [Charge(one, SendingLimits(UNLIMITED, UNLIMITED)) for one in SUBJECTS]
_AT_ONCE: Final = 4


def _opened(place: str) -> Ledger:
    if "://" in place:
        return RedisLedger(place, timeout_s=10, lease_s=LEASE_S)
    return SqliteLedger(Path(place), timeout_s=10, lease_s=LEASE_S)


async def _work(ledger: Ledger, log: int, dice: random.Random) -> None:
    while True:
        recipients = dice.randint(1, 5)
        try:
            one = await ledger.reserve(_CHARGES, recipients, datetime.now(UTC))
        except LedgerUnavailableError as error:
            os.write(log, f"E {error}\n".encode())
            return
        os.write(log, f"R {one.id} {recipients}\n".encode())
        if dice.random() < 0.1:
            continue  # as if it died in the middle of the relay
        accepted = dice.choice([recipients, recipients, dice.randint(0, recipients), 0])
        os.write(log, f"S {one.id} {accepted}\n".encode())
        await ledger.commit(one, accepted, datetime.now(UTC))
        os.write(log, f"D {one.id}\n".encode())


async def _main(place: str, log_file: str, seed: str) -> None:
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ledger = _opened(place)
    dice = [random.Random(f"{seed} {number}") for number in range(_AT_ONCE)]
    await asyncio.gather(*(_work(ledger, log, one) for one in dice))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
