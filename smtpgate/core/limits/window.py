"""The rolling 24 hours, kept as one count of recipients a minute.

A recipient is counted for 24 hours and at most one minute more, never less: no window of 24
hours holds more than the quota, and the error is one bucket.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

WINDOW: Final = timedelta(hours=24)
BUCKET: Final = timedelta(minutes=1)
BUCKET_US: Final = 60_000_000
# The bucket that now is in, and every one that reaches into the 24 hours before now.
BUCKETS: Final = WINDOW // BUCKET + 1


def minute_of(moment_us: int) -> int:
    """The number of the minute that a moment is in; moments are microseconds since 1970."""
    return moment_us // BUCKET_US


@dataclass(frozen=True, slots=True)
class Window:
    """The recipients of each minute, from the oldest with any to ``minute``, and their sum."""

    minute: int
    counts: tuple[int, ...] = (0,)
    used: int = 0

    def seen_at(self, minute: int) -> "Window":
        """The same as seen in that minute: what is old is gone.

        When the clock was set back, what was counted later than now is as if it were sent now.
        A clock that was ahead and is right again must not leave anybody waiting for the time
        that it showed.
        """
        passed = minute - self.minute
        if passed == 0:
            return self
        if passed < 0:
            kept = self.counts[:passed]
            last = sum(self.counts[len(kept) - 1 :]) if kept else self.used
            return Window(minute, (*kept[:-1], last), self.used)
        if passed >= BUCKETS or self.used == 0:
            return Window(minute)
        counts = _trimmed((self.counts + (0,) * passed)[-BUCKETS:])
        return Window(minute, counts, sum(counts))

    def plus(self, recipients: int) -> "Window":
        """With so many more in its last minute."""
        counts = (*self.counts[:-1], self.counts[-1] + recipients)
        return Window(self.minute, counts, self.used + recipients)

    def minus(self, minute: int, recipients: int) -> "Window":
        """With so many fewer of those that were counted in that minute, as far as it counts.

        Where the clock was set back since then, they stand in another minute, and nobody knows
        in which: the oldest give way, so that the others are counted no shorter than they must.
        """
        # When the clock was set back, its recipients were moved to the last bucket.
        age = max(0, self.minute - minute)
        if age >= BUCKETS:
            return self
        counts, left = list(self.counts), recipients
        own = len(counts) - 1 - age
        for at in (own, *range(len(counts))) if own >= 0 else range(len(counts)):
            taken = min(counts[at], left)
            counts[at] -= taken
            left -= taken
            if left == 0:
                break
        return Window(self.minute, _trimmed(tuple(counts)), self.used - recipients + left)

    def frees_at_us(self, wanted_used: int) -> int:
        """The moment from which no more than that is counted, when nothing else is sent."""
        used, gone = self.used, 0
        while used > wanted_used:
            used -= self.counts[gone]
            gone += 1
        last_minute = self.minute - (len(self.counts) - gone)
        return (last_minute + BUCKETS) * BUCKET_US


def _trimmed(counts: tuple[int, ...]) -> tuple[int, ...]:
    """The counts from the first that is not 0, so that one usage has one form."""
    if counts[0]:
        return counts
    first = next((at for at, count in enumerate(counts) if count), len(counts) - 1)
    return counts[first:]
