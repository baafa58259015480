"""A TCP proxy that delays, swallows or cuts what goes through it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from smtpgate.tasks import TaskOwner
from tests.support.daemons import LOOPBACK


class BadLine:
    """Passes octets on until a test changes that; each direction can be made bad."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._tasks = TaskOwner()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.delay_s = 0.0
        self.swallows_questions = False
        self.swallows_answers = False
        self.cuts_after_question = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._meet, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._tasks.cancel()
        await self._tasks.drain(1)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, self._to)
        _ = self._tasks.start(self._pump(reader, back, is_question=True))
        _ = self._tasks.start(self._pump(there, writer, is_question=False))

    async def _pump(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, is_question: bool
    ) -> None:
        try:
            with contextlib.suppress(OSError):
                while octets := await source.read(65536):
                    await asyncio.sleep(self.delay_s)
                    if self.cuts_after_question and b"EVALSHA" in octets and is_question:
                        self.cuts_after_question = False
                        await self._pass_and_cut(octets, to)
                        break
                    if not (self.swallows_questions if is_question else self.swallows_answers):
                        to.write(octets)
                        await to.drain()
        finally:
            to.close()

    async def _pass_and_cut(self, octets: bytes, to: asyncio.StreamWriter) -> None:
        """Once the question has arrived, nobody gets the answer."""
        self.swallows_answers = True
        to.write(octets)
        await to.drain()
        await asyncio.sleep(0.05)
        self.swallows_answers = False


@asynccontextmanager
async def open_line(port: int) -> AsyncIterator[BadLine]:
    """A line to that loopback port."""
    line = BadLine(port)
    await line.start()
    try:
        yield line
    finally:
        await line.close()
