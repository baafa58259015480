"""The ledger's file on a disk that is full, or that nobody may write to."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ports import LedgerUnavailableError
from tests.support.daemons import Lab, mount, small_disk
from tests.support.ledgers import soon, used_24h

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SUBJECT: Final = Subject("999999999999")
CHARGES: Final = [Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED))]


@pytest.fixture
def disk(lab: Lab) -> Iterator[Path]:
    """A disk of its own, 1 MiB large."""
    with small_disk(lab, 1) as folder:
        yield folder


async def used(ledger: SqliteLedger) -> int | None:
    try:
        return await used_24h(ledger, SUBJECT, NOW)
    except LedgerUnavailableError:
        return None


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            return


async def test_a_full_disk_is_unavailable_until_there_is_room(disk: Path) -> None:
    ledger = SqliteLedger(disk / "ledger.sqlite", timeout_s=1)
    passed, reported = 0, list[str]()
    reserved = await ledger.reserve(CHARGES, 7, NOW)
    fill(disk / "ballast")
    for number in range(2000):
        # Each minute has a count of its own, so that the file must grow.
        try:
            await ledger.reserve(CHARGES, 1, NOW + timedelta(seconds=number))
        except LedgerUnavailableError as error:
            reported.append(str(error))
        else:
            passed += 1
        if len(reported) == 3:
            break
    assert [text.partition(": ")[2] for text in reported] == ["database or disk is full"] * 3
    with pytest.raises(LedgerUnavailableError, match="disk is full"):
        await ledger.probe()
    await ledger.refund(reserved, NOW)
    (disk / "ballast").unlink()
    await soon(lambda: used(ledger), passed)
    await ledger.reserve(CHARGES, 1, NOW)
    assert await used(ledger) == passed + 1
    await ledger.close()


async def test_a_disk_that_may_not_be_written_is_unavailable_until_it_may(disk: Path) -> None:
    ledger = SqliteLedger(disk / "ledger.sqlite", timeout_s=1)
    await ledger.reserve(CHARGES, 1, NOW)
    await ledger.close()
    mount("-o", "remount,ro", disk)
    ledger = SqliteLedger(disk / "ledger.sqlite", timeout_s=1)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match=r"(?i)read-only|readonly"):
            await ledger.reserve(CHARGES, 1, NOW)
    mount("-o", "remount,rw", disk)
    await ledger.reserve(CHARGES, 1, NOW)
    assert await used(ledger) == 2
    await ledger.close()
