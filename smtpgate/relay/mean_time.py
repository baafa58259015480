"""The time that messages lately had a connection each, for an estimate of a wait in line."""

from typing import Final

_LATELY: Final = 0.1
# After fewer messages nothing can be said.
_ENOUGH: Final = 10


class MeanTime:
    """A mean of seconds, in which older ones count less and less."""

    def __init__(self) -> None:
        self._mean_s = 0.0
        self._measured = 0

    def note(self, seconds: float) -> None:
        """A message had a connection for so long."""
        self._measured += 1
        share = 1 / self._measured
        if share < _LATELY:
            share = _LATELY
        self._mean_s += share * (seconds - self._mean_s)

    def after(self, messages: int, at_once: int) -> float:
        """The seconds until a message is done that has so many before it; 0 if not known.

        ``at_once`` is how many are sent at the same time.
        """
        if self._measured < _ENOUGH:
            return 0.0
        return self._mean_s * (messages // at_once + 1)
