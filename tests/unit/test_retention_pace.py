"""The pace of a journal's retention: messages wait for its steps, so it leaves them time."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from smtpgate.journal.retention import Retention
from smtpgate.journal.terms import TermKey
from tests.support.clock import MovableClock, VirtualLoop


class _SlowWriter:
    """A writer of the journal that takes some time for each transaction, and does nothing."""

    def __init__(self, clock: MovableClock, took_s: float, found: list[int]) -> None:
        self._clock = clock
        self._took_s = took_s
        self._found = found
        self.used_s = 0.0

    async def run(self, work: Callable[..., int]) -> int:
        del work
        if self._found:
            self._clock.move(self._took_s)
            self.used_s += self._took_s
        return self._found.pop() if self._found else 0


@pytest.mark.parametrize("took_s", [0.0, 0.001, 0.01, 0.5])
def test_the_steps_of_a_round_take_no_more_than_a_fifth_of_the_time(took_s: float) -> None:
    loop, clock = VirtualLoop(), MovableClock()
    writer = _SlowWriter(clock, took_s, [250] * 40)
    retention = Retention(
        writer,  # type: ignore[arg-type]
        TermKey(bytes(32)),
        max_age=timedelta(days=30),
        max_octets=10**9,
        clock=clock,
        on_change=lambda _: None,
        on_error=lambda _: None,
    )
    try:
        loop.run_until_complete(retention._steps(lambda _: 0))
        slept_s = loop.time()
    finally:
        loop.close()
    assert slept_s == pytest.approx(max(4 * writer.used_s, 40 * 0.02))
