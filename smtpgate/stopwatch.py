"""The time that each stage of a message takes."""

from typing import Self

from smtpgate.core.events import Stage, SubmissionDone
from smtpgate.ports import Clock


class Stopwatch:
    """Notes how long each stage took, however it ends; it ends where the next one begins."""

    __slots__ = ("_clock", "_done", "_since_s", "_stage")

    def __init__(self, clock: Clock, done: SubmissionDone) -> None:
        self._clock, self._done = clock, done
        self._stage: Stage | None = None
        self._since_s = 0.0

    def begin(self, stage: Stage | None) -> None:
        """The next stage begins."""
        now_s = self._clock.monotonic()
        if self._stage is not None:
            self._done.stage_s[self._stage] = now_s - self._since_s
        self._stage, self._since_s = stage, now_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.begin(None)
