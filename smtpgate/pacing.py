"""Pacing: a message that is over its sender's rate waits for its turn, for a while.

A mail server that gets a 454 puts the message off by minutes, and its queue drains at its own
retries' pace instead of the account's rate. One whose answer comes a little later sends the
next message a little later.

It waits in the line of the subject whose rate it is, in order of arrival: an account whose rate
is used up has one line for all its messages; a user with a lower rate has its own, and does not
delay the others. Only the first of a line asks the ledger, once the rate has tokens again, and
nothing is counted before. A message waits only if it can pass in time, as far as that is known,
and a bounded number waits at all; others are refused at once, with the wait that was due.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import SystemRandom
from typing import Any, Final, Generic, TypeVar

from smtpgate.core.limits import Charge, LimitExceededError, Subject
from smtpgate.core.reply import reject
from smtpgate.ports import ClientGone, Reading

T = TypeVar("T")
Ask = Callable[[float], Awaitable[T]]
"""Asks the ledger to count a message that has waited so many seconds."""

_MAX_WAITING: Final = 1000
# Between two questions for one line: a rate may have tokens again in a microsecond.
_SHORTEST_WAIT_S: Final = 0.001
_LATE_S: Final = 0.01
_DICE: Final = SystemRandom()


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T]):
    """A message that waits."""

    charges: Sequence[Charge]
    recipients: int
    ask: Ask[T]
    number: int
    since_s: float
    deadline_s: float
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class _Line:
    """The messages that wait for the rate of one subject."""

    def __init__(self, refusal: LimitExceededError) -> None:
        self.messages: deque[_Waiting[Any]] = deque()
        self.note(refusal)

    def note(self, refusal: LimitExceededError) -> None:
        """Wait until the rate has tokens again, as the refusal says."""
        wait_s = (refusal.retry_after or timedelta(0)).total_seconds()
        self.refusal = refusal
        self._tokens_at_s = _now_s() + max(wait_s, _SHORTEST_WAIT_S)
        self._plan(0)

    @property
    def subject(self) -> Subject:
        """The subject of the rate."""
        return self.refusal.charge.subject

    def passed(self, waiting: _Waiting[Any]) -> None:
        """The message passed: the next one waits until the rate has earned its tokens back."""
        for charge in waiting.charges:
            if charge.subject == self.subject and charge.limits.max_send_rate_per_s > 0:
                self._tokens_at_s += waiting.recipients / charge.limits.max_send_rate_per_s
        self._plan(1)

    def _plan(self, turns: int) -> None:
        """Ask a little later than there are tokens, in an order that chance decides.

        Other hosts may wait for the same rate: those that did not get the last turn go first.
        """
        rate = self.refusal.charge.limits.max_send_rate_per_s
        late_s = min(_LATE_S, 0.25 / rate) if rate > 0 else 0.0
        self.ask_at_s = self._tokens_at_s + _DICE.uniform(turns, turns + 1) * late_s

    def is_first(self, waiting: _Waiting[Any]) -> bool:
        """True if it is its turn."""
        return self.messages[0] is waiting

    def is_turn_of(self, waiting: _Waiting[Any], now_s: float) -> bool:
        """True if it may ask now."""
        return self.is_first(waiting) and self.ask_at_s <= now_s

    def join(self, waiting: _Waiting[Any]) -> None:
        """Take a place, before those that came later."""
        place = len(self.messages)
        while place and self.messages[place - 1].number > waiting.number:
            place -= 1
        self.messages.insert(place, waiting)

    def leave(self, waiting: _Waiting[Any]) -> None:
        """Give the place up; the next one is woken when it was the first."""
        was_first = self.is_first(waiting)
        self.messages.remove(waiting)
        if was_first and self.messages:
            self.messages[0].woken.set()

    def wait_s(self, now_s: float, before: int | None = None) -> float:
        """The known wait of a message behind that many others."""
        ahead = list(self.messages)[:before]
        rate = self.refusal.charge.limits.max_send_rate_per_s
        owed_s = sum(one.recipients for one in ahead) / rate if rate > 0 else 0.0
        return max(0.0, self._tokens_at_s - now_s) + owed_s


class Pacer:
    """Has messages counted, after a wait where the rate needs one. It has one event loop."""

    def __init__(self, *, max_wait_s: float) -> None:
        """With ``max_wait_s`` of 0 nothing waits."""
        self._max_wait_s = max_wait_s
        self._lines: dict[Subject, _Line] = {}
        self._numbers = count()
        self._is_over = False
        self.waiting = 0
        self._began = 0
        self._waited_s = 0.0

    def readings(self) -> Iterator[Reading]:
        """The messages that wait or have waited, for a scrape."""
        yield Reading("smtpgate_paced_waiting", self.waiting)
        yield Reading("smtpgate_paced_total", self._began)
        yield Reading("smtpgate_paced_seconds_total", self._waited_s)

    async def pace(
        self,
        charges: Sequence[Charge],
        recipients: int,
        ask: Ask[T],
        client_gone: ClientGone = None,
    ) -> T:
        """Have the message counted, in its turn; what ``ask`` returns.

        ``ask`` is called again after each wait that its LimitExceededError is worth. Raises
        what it raises, LimitExceededError, or Reject when the client has left.
        """
        line: _Line | None = None
        if self._lines:  # mostly nothing waits
            lines = (self._lines.get(one.subject) for one in charges)
            line = next(filter(None, lines), None)
        if line is None:
            try:
                return await ask(0.0)
            except LimitExceededError as refusal:
                if not self._is_worth_a_wait(refusal, self._max_wait_s):
                    raise
                line = self._line_of(refusal)
        now_s = _now_s()
        wait_s = line.wait_s(now_s)
        if self._is_over or self.waiting >= _MAX_WAITING or wait_s > self._max_wait_s:
            raise _refusal_in(line, recipients, wait_s)
        waiting = _Waiting(
            charges, recipients, ask, next(self._numbers), now_s, now_s + self._max_wait_s
        )
        return await self._wait_and_ask(waiting, line, client_gone)

    def release(self) -> None:
        """End all waits: messages that wait are refused, and so are later ones."""
        self._is_over = True
        for line in self._lines.values():
            for waiting in line.messages:
                waiting.woken.set()

    async def _wait_and_ask(
        self, waiting: _Waiting[T], line: _Line, client_gone: ClientGone
    ) -> T:
        def wake(_: object) -> None:
            waiting.woken.set()

        self.waiting += 1
        self._began += 1
        if client_gone is not None:
            client_gone.add_done_callback(wake)
        try:
            while True:
                outcome = await self._in_line(waiting, line, client_gone)
                if not isinstance(outcome, LimitExceededError):
                    return outcome
                line = self._line_of(outcome)
        finally:
            self.waiting -= 1
            self._waited_s += _now_s() - waiting.since_s
            if client_gone is not None:
                client_gone.remove_done_callback(wake)

    async def _in_line(
        self, waiting: _Waiting[T], line: _Line, client_gone: ClientGone
    ) -> T | LimitExceededError:
        """The answer, or the refusal by another subject, in whose line it has to wait."""
        self._lines[line.subject] = line
        line.join(waiting)
        try:
            while True:
                await self._turn(waiting, line, client_gone)
                if _is_done(client_gone):
                    reject("client-gone")
                now_s = _now_s()
                left_s, is_its_turn = (
                    waiting.deadline_s - now_s,
                    line.is_turn_of(waiting, now_s),
                )
                if self._is_over or not is_its_turn:
                    before = line.messages.index(waiting)
                    raise _refusal_in(line, waiting.recipients, line.wait_s(now_s, before))
                try:
                    answer = await waiting.ask(now_s - waiting.since_s)
                except LimitExceededError as refusal:
                    if not self._is_worth_a_wait(refusal, left_s):
                        raise
                    if refusal.charge.subject != line.subject:
                        return refusal
                    line.note(refusal)
                else:
                    line.passed(waiting)
                    return answer
        finally:
            line.leave(waiting)
            if not line.messages:
                del self._lines[line.subject]

    async def _turn(self, waiting: _Waiting[Any], line: _Line, client_gone: ClientGone) -> None:
        """Wait until it is first and the rate has tokens, or until waiting has no use."""
        while not self._is_over and not _is_done(client_gone):
            until_s = waiting.deadline_s
            if line.is_first(waiting):
                until_s = min(until_s, line.ask_at_s)
            if until_s <= _now_s():
                return
            waiting.woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await waiting.woken.wait()

    def _is_worth_a_wait(self, refusal: LimitExceededError, left_s: float) -> bool:
        wait = refusal.retry_after
        return (
            refusal.limit == "max-send-rate"
            and wait is not None
            and wait.total_seconds() <= left_s
            and not self._is_over
        )

    def _line_of(self, refusal: LimitExceededError) -> _Line:
        """The line of that subject; it is kept once a message waits in it."""
        return self._lines.get(refusal.charge.subject) or _Line(refusal)


def _is_done(future: ClientGone) -> bool:
    return future is not None and future.done()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _refusal_in(line: _Line, recipients: int, wait_s: float) -> LimitExceededError:
    return LimitExceededError(
        line.refusal.charge,
        "max-send-rate",
        recipients=recipients,
        left=0,
        retry_after=timedelta(seconds=wait_s),
    )
