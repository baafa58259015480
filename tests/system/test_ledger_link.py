"""A server that answers what no Redis would, or has become another kind of server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import pytest

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.ledger.redis import RedisLedger
from smtpgate.ports import LedgerUnavailableError, LedgerUnfitError
from smtpgate.tasks import TaskOwner
from tests.support.daemons import LOOPBACK
from tests.support.waiting import until
from tests.support.world import DELEGATE

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CHARGES: Final = [Charge(Subject(DELEGATE), SendingLimits(100, UNLIMITED))]
STANDALONE: Final = b"*0\r\n"
CLUSTER: Final = b"*2\r\n$4\r\nmode\r\n$7\r\ncluster\r\n"
PASSED: Final = b"*4\r\n:1\r\n:0\r\n:29000000\r\n:5\r\n"


class Babbler:
    """Takes what it is reported the client, and gives each script the same answer.

    With an empty answer it takes a script, and closes the connection. Without leave it answers
    no HELLO; if it ``hangs_up``, it closes one connection then.
    """

    def __init__(self) -> None:
        self.hello = STANDALONE
        self.answer = PASSED
        self.asked: list[bytes] = []
        self.greeted, self.hangs_up = 0, False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.tasks = TaskOwner()

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        _ = self.tasks.start(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65536):
            writer.write(b"+OK\r\n" * octets.count(b"\r\nCLIENT\r\n"))
            if b"\r\nHELLO\r\n" in octets:
                self.greeted += 1
                await self.may_answer.wait()
                if self.hangs_up:
                    self.hangs_up = False
                    self.may_answer.clear()
                    break
            writer.write(self.hello * octets.count(b"\r\nHELLO\r\n"))
            scripts = octets.count(b"\r\nEVALSHA\r\n")
            self.asked += [octets] if scripts else []
            if scripts and not self.answer:
                self.hello = CLUSTER
                break
            writer.write(self.answer * scripts)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol Error"),
        (b":many\r\n", r"^its answer means nothing \(ValueError\)$"),
        (b"*x\r\n", r"^its answer means nothing \(ValueError\)$"),
    ],
)
async def test_an_answer_that_means_nothing_is_reported_to_all_waiters(
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


async def test_a_reservation_that_may_be_counted_is_undone_when_the_server_becomes_unfit() -> (
    None
):
    babbler = Babbler()
    async with opened(babbler) as ledger, asyncio.timeout(10):
        babbler.answer = b""
        with pytest.raises(LedgerUnfitError, match="it is a node of a cluster"):
            await ledger.reserve(CHARGES, 5, NOW)
        (reserving,) = babbler.asked
        number = reserving.partition(b":open:")[2].partition(b"\r\n")[0]
        babbler.hello, babbler.answer = STANDALONE, b"*0\r\n"
        await until(lambda: len(babbler.asked) > 1)
        assert number in babbler.asked[1]


async def test_a_question_that_was_never_sent_is_not_undone() -> None:
    babbler = Babbler()
    babbler.hello = CLUSTER
    async with opened(babbler) as ledger, asyncio.timeout(10):
        with pytest.raises(LedgerUnfitError):
            await ledger.reserve(CHARGES, 5, NOW)
        babbler.hello = STANDALONE
    assert babbler.asked == []


@pytest.mark.slow
async def test_a_call_whose_caller_gave_up_while_it_was_connected_is_not_sent() -> None:
    babbler, loop = Babbler(), asyncio.get_running_loop()
    babbler.may_answer.clear()
    async with opened(babbler) as ledger, asyncio.timeout(10):
        begun = loop.time()
        reserving = asyncio.gather(ledger.reserve(CHARGES, 5, NOW), return_exceptions=True)
        # The first connection takes half of the caller's time, and then fails.
        await until(lambda: babbler.greeted == 1 and loop.time() > begun + 0.5)
        babbler.hangs_up = True
        babbler.may_answer.set()
        await until(lambda: babbler.greeted == 2)
        (outcome,) = await reserving
        assert isinstance(outcome, LedgerUnavailableError)
        babbler.may_answer.set()
        assert (await ledger.reserve(CHARGES, 3, NOW)).used == (5,)
    assert len(babbler.asked) == 1
    assert babbler.asked[0].count(b"\r\nEVALSHA\r\n") == 1
