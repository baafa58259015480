"""Pacing: a message that is over its sender's rate waits for its turn, for a while.

A mail server that gets a 454 puts the message off by minutes, and its queue drains at its own
retries' pace instead of the account's rate. One whose answer comes a little later sends the
next message a little later.

It waits in the line of the subject whose rate it is, in order of arrival: an account whose rate
is used up has one line for all its messages; a user with a lower rate has its own, and does not
hold up the others. Only the first of a line asks the ledger, once the rate lends again; nothing
is counted before. A message waits only if it can pass in time, as far as that is known, and a
bounded number waits at all; others are refused at once, with the wait that they would have had.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import SystemRandom
from typing import Final

from smtpgate.core.limits import Charge, LimitExceededError, Reservation, Subject
from smtpgate.core.reply import reject
from smtpgate.ports import Clock, Ledger, Reading

_MAX_HELD: Final = 1000
# Between two questions for one line: a rate may lend again in a microsecond.
_SHORTEST_WAIT_S: Final = 0.001
_LATE_S: Final = 0.01
_DICE: Final = SystemRandom()


@dataclass(slots=True)
class PacerTally:
    """What was held so far: for the metrics."""

    messages: int = 0
    seconds: float = 0.0


@dataclass(slots=True, eq=False)
class _Held:
    """A message that waits."""

    charges: Sequence[Charge]
    recipients: int
    number: int
    deadline_s: float
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class _Line:
    """Those who wait for the rate of one subject."""

    def __init__(self, refusal: LimitExceededError) -> None:
        self.held: deque[_Held] = deque()
        self.note(refusal)

    def note(self, refusal: LimitExceededError) -> None:
        """It says from when on the rate lends again."""
        wait_s = (refusal.retry_after or timedelta(0)).total_seconds()
        self.refusal = refusal
        self._lends_at_s = _now_s() + max(wait_s, _SHORTEST_WAIT_S)
        self._open(0)

    @property
    def subject(self) -> Subject:
        """Whose rate it is."""
        return self.refusal.charge.subject

    def passed(self, held: _Held) -> None:
        """The next one's turn is once the rate has made up for that message."""
        for charge in held.charges:
            if charge.subject == self.subject and charge.limits.max_send_rate_per_s > 0:
                self._lends_at_s += held.recipients / charge.limits.max_send_rate_per_s
        self._open(1)

    def _open(self, turns: int) -> None:
        """Ask a little later than the rate lends, in an order that chance decides.

        Other hosts may wait for the same rate: those that did not get the last turn go first.
        """
        rate = self.refusal.charge.limits.max_send_rate_per_s
        late_s = min(_LATE_S, 0.25 / rate) if rate > 0 else 0.0
        self.opens_at_s = self._lends_at_s + _DICE.uniform(turns, turns + 1) * late_s

    def is_first(self, held: _Held) -> bool:
        """Whether it is its turn."""
        return self.held[0] is held

    def is_turn_of(self, held: _Held, now_s: float) -> bool:
        """Whether it may ask now."""
        return self.is_first(held) and self.opens_at_s <= now_s

    def join(self, held: _Held) -> None:
        """Take a place, before those that came later."""
        place = len(self.held)
        while place and self.held[place - 1].number > held.number:
            place -= 1
        self.held.insert(place, held)

    def leave(self, held: _Held) -> None:
        """Give the place up; the next one is woken when it was the first."""
        was_first = self.is_first(held)
        self.held.remove(held)
        if was_first and self.held:
            self.held[0].woken.set()

    def wait_s(self, now_s: float, before: int | None = None) -> float:
        """How long until one behind so many others passes, as far as that is known."""
        ahead = list(self.held)[:before]
        rate = self.refusal.charge.limits.max_send_rate_per_s
        owed_s = sum(one.recipients for one in ahead) / rate if rate > 0 else 0.0
        return max(0.0, self._lends_at_s - now_s) + owed_s


class Pacer:
    """Reserves, after a wait where the rate wants one. It belongs to one event loop."""

    def __init__(self, ledger: Ledger, *, max_wait_s: float, clock: Clock) -> None:
        """With ``max_wait_s`` of 0 nothing waits."""
        self._ledger = ledger
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._lines: dict[Subject, _Line] = {}
        self._numbers = count()
        self._is_over = False
        self.held = 0
        self.tally = PacerTally()

    def readings(self) -> Iterator[Reading]:
        """The messages that wait or waited for their turn, for a scrape."""
        yield Reading("smtpgate_paced_waiting", self.held)
        yield Reading("smtpgate_paced_total", self.tally.messages)
        yield Reading("smtpgate_paced_seconds_total", self.tally.seconds)

    async def reserve(
        self,
        charges: Sequence[Charge],
        recipients: int,
        client_gone: "asyncio.Future[None] | None" = None,
    ) -> tuple[Reservation, float]:
        """Count the recipients; the reservation, and how many seconds it waited for its turn.

        Raises LimitExceededError or LedgerUnavailableError, or Reject when the client has left.
        """
        lines = (self._lines.get(one.subject) for one in charges)
        line = next(filter(None, lines), None)
        if line is None:
            try:
                return await self._ask(charges, recipients), 0.0
            except LimitExceededError as refusal:
                if not self._is_worth_a_wait(refusal, self._max_wait_s):
                    raise
                line = self._line_of(refusal)
        now_s = _now_s()
        wait_s = line.wait_s(now_s)
        if self._is_over or self.held >= _MAX_HELD or wait_s > self._max_wait_s:
            raise _refusal_in(line, recipients, wait_s)
        held = _Held(charges, recipients, next(self._numbers), now_s + self._max_wait_s)
        return await self._wait_and_ask(held, line, client_gone), _now_s() - now_s

    def release(self) -> None:
        """End all waits: messages that wait are refused, and so are later ones."""
        self._is_over = True
        for line in self._lines.values():
            for held in line.held:
                held.woken.set()

    async def _ask(self, charges: Sequence[Charge], recipients: int) -> Reservation:
        return await self._ledger.reserve(charges, recipients, self._clock.now())

    async def _wait_and_ask(
        self, held: _Held, line: _Line, client_gone: "asyncio.Future[None] | None"
    ) -> Reservation:
        def wake(_: "asyncio.Future[None]") -> None:
            held.woken.set()

        started_s = _now_s()
        self.held += 1
        self.tally.messages += 1
        if client_gone is not None:
            client_gone.add_done_callback(wake)
        try:
            while True:
                outcome = await self._in_line(held, line, client_gone)
                if isinstance(outcome, Reservation):
                    return outcome
                line = self._line_of(outcome)
        finally:
            self.held -= 1
            self.tally.seconds += _now_s() - started_s
            if client_gone is not None:
                client_gone.remove_done_callback(wake)

    async def _in_line(
        self, held: _Held, line: _Line, client_gone: "asyncio.Future[None] | None"
    ) -> Reservation | LimitExceededError:
        """The reservation, or the refusal by another subject, in whose line it has to wait."""
        self._lines[line.subject] = line
        line.join(held)
        try:
            while True:
                await self._turn(held, line, client_gone)
                if _is_done(client_gone):
                    reject("client-gone")
                now_s = _now_s()
                left_s, is_its_turn = held.deadline_s - now_s, line.is_turn_of(held, now_s)
                if self._is_over or not is_its_turn:
                    before = line.held.index(held)
                    raise _refusal_in(line, held.recipients, line.wait_s(now_s, before))
                try:
                    reservation = await self._ask(held.charges, held.recipients)
                except LimitExceededError as refusal:
                    if not self._is_worth_a_wait(refusal, left_s):
                        raise
                    if refusal.charge.subject != line.subject:
                        return refusal
                    line.note(refusal)
                else:
                    line.passed(held)
                    return reservation
        finally:
            line.leave(held)
            if not line.held:
                del self._lines[line.subject]

    async def _turn(
        self, held: _Held, line: _Line, client_gone: "asyncio.Future[None] | None"
    ) -> None:
        """Wait until it is first and the rate lends, or until there is no use in waiting."""
        while not self._is_over and not _is_done(client_gone):
            until_s = held.deadline_s
            if line.is_first(held):
                until_s = min(until_s, line.opens_at_s)
            if until_s <= _now_s():
                return
            held.woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await held.woken.wait()

    def _is_worth_a_wait(self, refusal: LimitExceededError, left_s: float) -> bool:
        wait = refusal.retry_after
        return (
            refusal.limit == "max-send-rate"
            and wait is not None
            and wait.total_seconds() <= left_s
            and not self._is_over
        )

    def _line_of(self, refusal: LimitExceededError) -> _Line:
        """The line of that subject; it is kept once somebody waits in it."""
        return self._lines.get(refusal.charge.subject) or _Line(refusal)


def _is_done(future: "asyncio.Future[None] | None") -> bool:
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
