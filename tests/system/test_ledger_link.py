"""A server that answers what no Redis would: nobody waits for ever, and it is asked again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import pytest

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.ledger.redis import RedisLedger
from smtpgate.ports import LedgerUnavailableError
from smtpgate.tasks import TaskOwner
from tests.support.daemons import LOOPBACK

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CHARGES: Final = [Charge(Subject("999999999999"), SendingLimits(100, UNLIMITED))]
PASSED: Final = b"*4\r\n:1\r\n:0\r\n:29000000\r\n:5\r\n"


class Babbler:
    """Takes what it is told of the client, and gives each script the same answer."""

    def __init__(self) -> None:
        self.answer = PASSED
        self.tasks = TaskOwner()

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        _ = self.tasks.start(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65536):
            writer.write(b"+OK\r\n" * octets.count(b"\r\nCLIENT\r\n"))
            writer.write(b"*0\r\n" * octets.count(b"\r\nHELLO\r\n"))
            writer.write(self.answer * octets.count(b"\r\nEVALSHA\r\n"))
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def opened(babbler: Babbler) -> AsyncIterator[RedisLedger]:
    async with await asyncio.start_server(babbler.meet, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        ledger = RedisLedger(f"redis://{LOOPBACK}:{port}/0", timeout_s=1)
        yield ledger
        await ledger.close()
        assert await babbler.tasks.drain(5) == 0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol Error"),
        (b":many\r\n", r"^its answer means nothing \(ValueError\)$"),
        (b"*x\r\n", r"^its answer means nothing \(ValueError\)$"),
    ],
)
async def test_an_answer_that_means_nothing_is_told_to_all_who_wait(
    answer: bytes, problem: str
) -> None:
    babbler = Babbler()
    async with opened(babbler) as ledger, asyncio.timeout(10):
        assert (await ledger.reserve(CHARGES, 5, NOW)).used == (5,)
        babbler.answer = answer
        tries = [ledger.reserve(CHARGES, 1, NOW) for _ in range(3)]
        for outcome in await asyncio.gather(*tries, return_exceptions=True):
            with pytest.raises(LedgerUnavailableError, match=problem):
                raise outcome if isinstance(outcome, BaseException) else AssertionError
        babbler.answer = PASSED
        assert (await ledger.reserve(CHARGES, 5, NOW)).used == (5,)
