"""Pauses of the gate: the delay of its event loop, and its garbage collections.

One thread does nearly everything, so whatever takes long in it delays every client. A timer of
the loop fires every ten milliseconds, and the time by which it fires late is a sample of the
delay that a client has just seen. While there are no clients it fires ten times less often:
it would be most of what an idle gate does. Python's garbage collector stops all threads; its
callbacks measure it.
"""

import asyncio
import gc
from collections.abc import Iterator, Mapping
from typing import Any, Final

from smtpgate.metrics.histogram import Series
from smtpgate.ports import Clock, Reading

GENERATIONS: Final = ("0", "1", "2")
_EVERY_S: Final = 0.01
_EVERY_IDLE_S: Final = 0.1
# The process is idle when it had no event for so long.
_BUSY_S: Final = 1.0
_WINDOW_S: Final = 60.0


class Longest:
    """The longest of the values that were noted in the last one to two minutes.

    Unlike a maximum since the last scrape, it is the same for several scrapers.
    """

    def __init__(self, now_s: float) -> None:
        self._ends_s = now_s + _WINDOW_S
        self._present = self._before = 0.0

    def note(self, value: float, now_s: float) -> None:
        """Take a value into account; the times must not go back."""
        if now_s >= self._ends_s:
            is_next = now_s < self._ends_s + _WINDOW_S
            self._before = self._present if is_next else 0.0
            self._present = 0.0
            self._ends_s = now_s + _WINDOW_S
        self._present = max(self._present, value)

    @property
    def value(self) -> float:
        """The longest of them, 0 if there is none."""
        return max(self._present, self._before)


class LoopDelay:
    """Measures the delay of the event loop between ``start`` and ``stop``."""

    def __init__(self, delays: Series, clock: Clock) -> None:
        self._delays = delays
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._has_worked = True
        self._busy_until_s = 0.0
        self._longest = Longest(clock.monotonic())

    def start(self) -> None:
        """Measure from now on."""
        self._begin(self._clock.monotonic())

    def _begin(self, now_s: float) -> None:
        if self._has_worked:
            self._has_worked, self._busy_until_s = False, now_s + _BUSY_S
        every_s = _EVERY_S if now_s < self._busy_until_s else _EVERY_IDLE_S
        self._due_s = now_s + every_s
        self._timer = asyncio.get_running_loop().call_later(every_s, self._fire)

    def note_work(self) -> None:
        """The process has clients: measure often for a while."""
        self._has_worked = True

    def stop(self) -> None:
        """Measure no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        now_s = self._clock.monotonic()
        delay_s = max(now_s - self._due_s, 0.0)
        self._delays.observe(delay_s)
        self._longest.note(delay_s, now_s)
        self._begin(now_s)

    @property
    def longest_s(self) -> float:
        """The longest delay of the last one to two minutes."""
        return self._longest.value


class CollectorPauses:
    """Measures the garbage collector between ``start`` and ``stop``, by generation."""

    def __init__(self, pauses: Mapping[str, Series], clock: Clock) -> None:
        self._pauses = pauses
        self._clock = clock
        self._began_s = 0.0

    def start(self) -> None:
        """Measure from now on."""
        gc.callbacks.append(self._note)

    def stop(self) -> None:
        """Measure no longer; the second time does nothing."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)

    def _note(self, phase: str, info: Mapping[str, Any]) -> None:
        # The interpreter runs one collection at a time, in any thread that makes objects.
        if phase == "start":
            self._began_s = self._clock.monotonic()
        else:
            generation = str(info["generation"])
            self._pauses[generation].observe(self._clock.monotonic() - self._began_s)


class Pauses:
    """Both measurements of a running gate."""

    def __init__(self, delays: Series, pauses: Mapping[str, Series], clock: Clock) -> None:
        self._loop_delay = LoopDelay(delays, clock)
        self._collector = CollectorPauses(pauses, clock)
        self.note_work = self._loop_delay.note_work

    def start(self) -> None:
        """Measure the running event loop from now on."""
        self._loop_delay.start()
        self._collector.start()

    def stop(self) -> None:
        """Measure no longer; the second time does nothing."""
        self._loop_delay.stop()
        self._collector.stop()

    def readings(self) -> Iterator[Reading]:
        """The longest delay, for a scrape."""
        yield Reading("smtpgate_loop_delay_longest_seconds", self._loop_delay.longest_s)
