"""Traces of a gate in the test's own event loop, and what they have shown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from smtpgate.control import TraceRequest
from smtpgate.core.transcript import TraceTarget, TranscriptLine, TranscriptPart
from smtpgate.gate.gate import Gate
from tests.support.waiting import until

MARKS = {"command": "C:", "reply": "S:", "note": "--"}


@dataclass
class Seen:
    """The lines of a trace so far; ``ended`` is its task."""

    ended: asyncio.Task[None]
    parts: list[TranscriptPart] = field(default_factory=list)

    @property
    def lines(self) -> list[TranscriptLine]:
        """All lines."""
        return [line for part in self.parts for line in part.lines]

    @property
    def dropped(self) -> int:
        """The number of lines that were dropped."""
        return sum(part.dropped for part in self.parts)

    @property
    def texts(self) -> list[str]:
        """The lines as people read them, without times and ids."""
        return [
            f"{one.upstream or one.side} {MARKS[one.kind]} {one.text}" for one in self.lines
        ]

    async def shows(self, text: str) -> None:
        """Wait until a line has that text in it."""
        await until(lambda: any(text in one for one in self.texts), 10)


@asynccontextmanager
async def tracing(
    gate: Gate, seconds: float | None = None, **target: str
) -> AsyncIterator[Seen]:
    """Trace while the block runs."""
    request = TraceRequest(TraceTarget(**target), seconds)
    found = gate.service.tracer.traces
    before = len(found)
    parts: list[TranscriptPart] = []

    async def collect() -> None:
        answer = gate.host.routes.answer(request.name, msgspec.json.encode(request))
        async for part in answer:
            assert isinstance(part, TranscriptPart)
            parts.append(part)

    task = asyncio.create_task(collect())
    await until(lambda: len(found) > before or task.done(), 10)
    try:
        yield Seen(task, parts)
    finally:
        _ = task.cancel()
        await asyncio.wait([task])
