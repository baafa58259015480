"""Watches a ledger: whether it can count, and how far its store's clock is from the host's.

A probe runs every five seconds, also when no message comes, and twice a second while the ledger
cannot count. A call of the message path that fails is noted at once. Only a probe ends an
outage, so that each outage is two lines of the log, for any number of messages.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from smtpgate.core.events import LedgerChanged, LedgerClockChanged
from smtpgate.core.limits import Charge, Crossing, LimitStatus, Reservation
from smtpgate.ports import (
    Clock,
    EventSink,
    Ledger,
    LedgerUnavailableError,
    LedgerUnfitError,
    Reading,
)
from smtpgate.tasks import Rhythm

_EVERY_S: Final = 5.0
_IN_TROUBLE_S: Final = 0.5
# Hosts that keep their time by NTP differ by milliseconds. Reported from the first on, until
# the second: a skew that wavers is not reported again and again.
_SKEWED: Final = timedelta(seconds=2)
_AGREES: Final = timedelta(seconds=1)
_NO_SKEW: Final = timedelta(0)

T = TypeVar("T")


class LedgerWatch:
    """Implements the Ledger port over another ledger, and knows whether that one can count."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Clock,
        events: EventSink,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._events = events
        self._on_error = on_error
        self._problem: str | None = None
        self._has_looked = False
        self._since_s = 0.0
        self._is_skewed = False
        self._rhythm = Rhythm()
        self.skew = _NO_SKEW
        self.is_unfit = False

    @property
    def problem(self) -> str | None:
        """The problem of the last request to the ledger, or ``None``."""
        return self._problem if self._has_looked else "not asked yet"

    def readings(self) -> Iterator[Reading]:
        """The state of the ledger, for a scrape."""
        yield Reading("smtpgate_ledger_up", 0 if self.problem else 1)
        yield Reading("smtpgate_ledger_clock_skew_seconds", self.skew_s)

    @property
    def skew_s(self) -> float:
        """By how many seconds its store's clock is ahead of this host's, at least."""
        return self.skew.total_seconds()

    def state(self) -> tuple[bool, str]:
        """True if it can count, with its state in words."""
        if self.problem is not None:
            return False, self.problem
        return True, f"open; {self._skew_in_words()}" if self._is_skewed else "open"

    async def run(self) -> None:
        """Probe the ledger from time to time, until stopped."""
        while await self._rhythm.goes_on(_IN_TROUBLE_S if self._problem else _EVERY_S):
            await self.look()

    def stop(self) -> None:
        """Stop probing."""
        self._rhythm.end()

    async def look(self) -> None:
        """Probe the ledger now; it takes at most the ledger's own timeout."""
        before, started_s = self._clock.now(), self._clock.monotonic()
        try:
            store_time = await self._ledger.probe()
        except LedgerUnavailableError as error:
            self.is_unfit = isinstance(error, LedgerUnfitError)
            self.note(str(error))
        except Exception as error:  # noqa: BLE001 - it must not end the gate's life
            self._on_error(error)
            self.note("not known")
        else:
            self.note(None)
            if store_time is not None:
                took = timedelta(seconds=self._clock.monotonic() - started_s)
                self._note_skew(_apart(store_time - before, took))
        self._has_looked = True

    # -- the port ------------------------------------------------------------------------------

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        """Count the recipients beforehand; raises LimitExceededError when they are too many."""
        return await self._noted(self._ledger.reserve(charges, recipients, now))

    async def commit(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """Keep the recipients that the upstream accepted, or may have accepted."""
        return await self._noted(self._ledger.commit(reservation, accepted, now))

    async def refund(self, reservation: Reservation, now: datetime) -> None:
        """Give all recipients back."""
        await self._noted(self._ledger.refund(reservation, now))

    @property
    def has_full_quotas(self) -> bool:
        """False if no 24-hour quota was full when last seen."""
        return self._ledger.has_full_quotas

    async def check(self, charges: Sequence[Charge], now: datetime) -> None:
        """Raise LimitExceededError when a 24-hour quota has no room for even one recipient."""
        await self._noted(self._ledger.check(charges, now))

    async def _noted(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except LedgerUnavailableError as error:
            self.note(str(error))
            raise

    async def limit_statuses(
        self, charges: Sequence[Charge], now: datetime
    ) -> tuple[LimitStatus, ...]:
        """The status of each charge; nothing is counted."""
        return await self._noted(self._ledger.limit_statuses(charges, now))

    async def probe(self) -> datetime | None:
        """Write to the store something that counts nothing, to see that it can be written."""
        return await self._noted(self._ledger.probe())

    async def close(self) -> None:
        """Send the calls that wait to the store, and disconnect."""
        await self._ledger.close()

    # -- changes --------------------------------------------------------------------------

    def note(self, problem: str | None) -> None:
        """Note the problem of a request, or that it can count."""
        was, self._problem = self._problem, problem
        if (was is None) == (problem is None):
            return
        now_s, lasted_s = self._clock.monotonic(), 0.0
        if problem is None:
            lasted_s = now_s - self._since_s
        else:
            self._since_s = now_s
            self._rhythm.wake()
        self._events.publish(LedgerChanged(problem, lasted_s, self._clock.now()))

    def _note_skew(self, skew: timedelta) -> None:
        self.skew = skew
        is_skewed = abs(skew) >= (_AGREES if self._is_skewed else _SKEWED)
        if is_skewed != self._is_skewed:
            self._is_skewed = is_skewed
            problem = self._skew_in_words() if is_skewed else None
            self._events.publish(LedgerClockChanged(problem, self.skew_s, self._clock.now()))

    def _skew_in_words(self) -> str:
        side = "ahead of" if self.skew > _NO_SKEW else "behind"
        return f"its clock is {abs(self.skew_s):.1f} s {side} this host's"


def _apart(since_asked: timedelta, took: timedelta) -> timedelta:
    """The least difference of two clocks: one was read between two readings of the other."""
    if since_asked < _NO_SKEW:
        return since_asked
    return max(_NO_SKEW, since_asked - took)
