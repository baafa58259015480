"""Requests that a parent asks all its workers, and their answers as they come.

A worker answers as the handlers in its process do. The parent keeps a bounded number of values
that nobody has read yet; an answer that exceeds it ends with a problem.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Final, Protocol

import msgspec

from smtpgate.control import ControlRequest, FromWorker, RefusedError, Routes
from smtpgate.control.routes import DEFECT
from smtpgate.gate.frames import AnswerEnd, AnswerValue, Ask, OfAnswer, StopAnswer, ToWorker
from smtpgate.tasks import TaskOwner

_MOST_UNREAD: Final = 1000
_ENDED: Final = "the worker has ended"
_TOO_FAST: Final = "the answer came faster than it was read"


class AskedWorker(Protocol):
    """A worker that can be asked."""

    number: int

    def send(self, frame: ToWorker) -> None:
        """Send it a frame."""


class _Question:
    """One request, until all workers have ended their answers."""

    def __init__(self, workers: Collection[AskedWorker]) -> None:
        self.waiting = {id(worker): worker for worker in workers}
        self._unread: asyncio.Queue[FromWorker | None] = asyncio.Queue()

    def take(self, worker: AskedWorker, frame: OfAnswer) -> None:
        """Take a part of a worker's answer."""
        if id(worker) not in self.waiting:
            return
        match frame:
            case AnswerValue(number, value):
                if self._unread.qsize() < _MOST_UNREAD:
                    self._unread.put_nowait(FromWorker(worker.number, value))
                else:
                    worker.send(StopAnswer(number))
                    self.end(worker, _TOO_FAST)
            case AnswerEnd(_, problem):
                self.end(worker, problem)

    def end(self, worker: AskedWorker, problem: str | None) -> None:
        """A worker has ended its answer, or is gone."""
        if self.waiting.pop(id(worker), None) is None:
            return
        if problem is not None:
            self._unread.put_nowait(FromWorker(worker.number, problem=problem))
        if not self.waiting:
            self._unread.put_nowait(None)

    async def next(self) -> FromWorker | None:
        """The next value; ``None`` at the end."""
        if not self.waiting and self._unread.empty():
            return None
        return await self._unread.get()


class Questions:
    """The requests that wait for answers of workers."""

    def __init__(self) -> None:
        self._asked = 0
        self._open: dict[int, _Question] = {}

    async def ask(
        self, workers: Collection[AskedWorker], request: ControlRequest
    ) -> AsyncGenerator[FromWorker]:
        """Ask these workers; as :meth:`Peers.ask`."""
        self._asked += 1
        number, question = self._asked, _Question(workers)
        self._open[number] = question
        frame = Ask(number, request.name, msgspec.json.encode(request))
        try:
            for worker in workers:
                worker.send(frame)
            while (value := await question.next()) is not None:
                yield value
        finally:
            del self._open[number]
            for worker in question.waiting.values():
                worker.send(StopAnswer(number))

    def take(self, worker: AskedWorker, frame: OfAnswer) -> None:
        """Take a part of a worker's answer."""
        question = self._open.get(frame.number)
        if question is not None:
            question.take(worker, frame)

    def lose(self, worker: AskedWorker) -> None:
        """The worker has ended."""
        for question in tuple(self._open.values()):
            question.end(worker, _ENDED)


class Answers:
    """The worker's side: the requests that it is answering."""

    def __init__(
        self,
        routes: Routes,
        send: Callable[[OfAnswer], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._routes = routes
        self._send = send
        self._on_error = on_error
        self._tasks = TaskOwner()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._may_begin = asyncio.Event()

    def begin(self) -> None:
        """Answer from now on; all handlers are there."""
        self._may_begin.set()

    def take(self, frame: Ask | StopAnswer) -> None:
        """Answer a request, or answer it no more."""
        match frame:
            case Ask(number, name):
                task = self._tasks.start(self._answer(frame), name=name)
                self._running[number] = task
                # Not in the task: one that is stopped before its first step runs nothing.
                task.add_done_callback(lambda _: self._running.pop(number, None))
            case StopAnswer(number):
                if (running := self._running.get(number)) is not None:
                    _ = running.cancel()

    async def close(self) -> None:
        """End all answers."""
        _ = await self._tasks.drain(0)

    async def _answer(self, ask: Ask) -> None:
        problem: str | None = None
        try:
            await self._may_begin.wait()
            async for value in self._routes.answer(ask.name, ask.arguments):
                self._send(AnswerValue(ask.number, msgspec.to_builtins(value)))
        except RefusedError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - logged; the worker goes on
            self._on_error(error)
            problem = DEFECT
        self._send(AnswerEnd(ask.number, problem))
