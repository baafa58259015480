"""The parent's end of the line of one worker, which the thread of the store reads.

A request without trouble is decoded, carried out and answered in this thread, and wakes up no
event loop. The loop gets the others: requests while the journal is in trouble, and answers
after which something is left to do.
"""

import contextlib
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from smtpgate.core.limits import Reservation
from smtpgate.gate.frames import (
    AskFinish,
    BeginDone,
    NoFrameError,
    OfMessage,
    OnLine,
    StoreAnswer,
    decode_requests,
    encode_packet,
)
from smtpgate.gate.store_answers import answer_without_trouble
from smtpgate.gate.store_begun import BegunMessages
from smtpgate.store.owner import StoreOwner
from smtpgate.store.requests import Begin
from smtpgate.workers.line import PacketLine

Answered: TypeAlias = tuple[OfMessage, Any]
"""A request, and the answer of the store's thread to it."""


class Desk(Protocol):
    """The desk of the same worker. Its methods are for the event loop alone.

    ``begun`` has its messages between begin and finish.
    """

    begun: BegunMessages

    def take(self, requests: Sequence[OnLine]) -> None:
        """Carry out requests that need the event loop."""

    def settle(self, answered: Sequence[Answered]) -> None:
        """Do what is left to do after these answers, and send them."""

    def send_all(self, answers: Sequence[StoreAnswer]) -> None:
        """Send answers for which the line has no room."""

    def give_back(self, reservations: Sequence[Reservation | None]) -> None:
        """Give back what was counted for a worker that has ended without its answer."""

    def end_line(self, problem: Exception | None) -> None:
        """The line has ended, and all that came over it has its answer."""


class StoreInlet:
    """Implements Inlet over a line; only the store's thread calls it."""

    def __init__(
        self, line: PacketLine, owner: StoreOwner, desk: Desk, loop: AbstractEventLoop
    ) -> None:
        self.fileno = line.fileno
        self.close = line.close
        self._line = line
        self._owner = owner
        self._desk = desk
        self._loop = loop
        self._unanswered = 0
        self._has_ended = False
        self._problem: Exception | None = None

    def read(self) -> Sequence[OfMessage] | None:
        """The requests of a packet; ``None`` once no more come."""
        packet = self._line.receive()
        if packet is None:
            self._end(None)
            return None
        if not packet:
            return ()
        try:
            requests = decode_requests(packet)
        except NoFrameError as error:
            self._end(error)
            return None
        if not self._owner.is_untroubled:
            self._in_loop(self._desk.take, requests)
            return ()
        asked, unknown = self._desk.begun.complete(requests)
        if unknown:
            self._send(unknown, ())
        self._owner.enter(
            [one.request.message_id for one in asked if isinstance(one.request, Begin)]
        )
        self._unanswered += len(asked)
        return asked

    def _end(self, problem: Exception | None) -> None:
        self._has_ended, self._problem = True, problem
        self._note_end()

    def _note_end(self) -> None:
        if self._has_ended and not self._unanswered:
            self._in_loop(self._desk.end_line, self._problem)

    def answer(self, answered: Sequence[Answered]) -> None:
        """Send the answers to some of the requests that were read."""
        frames: list[StoreAnswer] = []
        counted: list[Reservation | None] = []
        over: list[str] = []
        left: list[Answered] = []
        has_tasks = False
        self._unanswered -= len(answered)
        for asked, answer in answered:
            frame = answer_without_trouble(asked.number, answer)
            if frame is None:
                left.append((asked, answer))
                continue
            frames.append(frame)
            request = asked.request
            if type(frame) is BeginDone:
                self._desk.begun.add(request, answer.counted)
                counted.append(answer.counted)
            else:
                over.append(request.message_id)
            if type(asked) is AskFinish and request.entry is not None and request.entry.tasks:
                has_tasks = True
        if over:
            self._owner.leave(over)
            self._desk.begun.forget(over)
        if frames:
            self._send(frames, counted)
        if has_tasks:
            self._in_loop(self._owner.on_tasks)
        if left:
            self._in_loop(self._desk.settle, left)
        self._note_end()

    def _send(
        self, frames: Sequence[StoreAnswer], counted: Sequence[Reservation | None]
    ) -> None:
        """Send answers; those to the beginnings of messages have these reservations."""
        try:
            is_sent = self._line.send(encode_packet(frames))
        except ConnectionError:
            self._in_loop(self._desk.give_back, counted)
            return
        if not is_sent:
            self._in_loop(self._desk.send_all, frames)

    def _in_loop(self, do: Callable[..., object], *words: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: no worker waits
            _ = self._loop.call_soon_threadsafe(do, *words)
