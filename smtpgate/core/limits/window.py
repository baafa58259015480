"""The rolling 24 hours, kept as one count of recipients a minute.

A recipient is counted for 24 hours and at most one minute more, never less: no window of 24
hours has more than the quota, and the error is at most one bucket.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from msgspec import Struct

WINDOW: Final = timedelta(hours=24)
BUCKET: Final = timedelta(minutes=1)
BUCKET_US: Final = 60_000_000
# The current bucket, and every bucket that overlaps the 24 hours before now.
BUCKETS: Final = WINDOW // BUCKET + 1


def minute_of(moment_us: int) -> int:
    """The number of the minute that a moment is in; moments are microseconds since 1970."""
    return moment_us // BUCKET_US


class Window(Struct, frozen=True, gc=False):
    """The recipients of each minute, from the oldest with any to ``minute``, and their sum.

    ``earlier`` has those of the minutes before, so that to count more changes only the sum.
    """

    minute: int
    earlier: tuple[int, ...] = ()
    used: int = 0

    @property
    def counts(self) -> tuple[int, ...]:
        """The recipients of each minute, with those of the last one."""
        return *self.earlier, self.used - sum(self.earlier)

    def seen_at(self, minute: int) -> "Window":
        """The same as of that minute, without old counts.

        If the clock was set back, counts later than now are moved to now: after a clock was
        ahead and is right again, no sender must wait for the time that it showed.
        """
        passed = minute - self.minute
        if passed < 0:
            return Window(minute, self.counts[: passed - 1], self.used)
        if passed >= BUCKETS or self.used == 0:
            return Window(minute)
        return _window(minute, (self.counts + (0,) * passed)[-BUCKETS:])

    def plus(self, recipients: int) -> "Window":
        """The window with that many more in its last minute."""
        return Window(self.minute, self.earlier, self.used + recipients)

    def minus(self, minute: int, recipients: int) -> "Window":
        """The window with that many fewer of those counted in that minute, if it still counts.

        If the clock was set back since then, they are in another minute, which is not known:
        the oldest are removed, so that no other recipient is counted for less than 24 hours.
        """
        # If the clock was set back, the recipients of that minute are in the last bucket.
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
        return _window(self.minute, counts)

    def frees_at_us(self, wanted_used: int) -> int:
        """The moment from which no more than that is counted, if nothing else is sent."""
        used, gone, counts = self.used, 0, self.counts
        while used > wanted_used:
            used -= counts[gone]
            gone += 1
        last_minute = self.minute - (len(counts) - gone)
        return (last_minute + BUCKETS) * BUCKET_US


def _window(minute: int, counts: Sequence[int]) -> Window:
    """The window of those counts from the first that is not 0, so that equal ones are equal."""
    first = next((at for at, count in enumerate(counts) if count), len(counts) - 1)
    return Window(minute, tuple(counts[first:-1]), sum(counts))
