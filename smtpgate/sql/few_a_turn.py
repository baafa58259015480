"""Answers that come together are passed on in several turns of the event loop.

Each lets a message go on, and all messages that go on in one turn make everything else wait.
"""

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

A = TypeVar("A")

_A_TURN: Final = 8


class FewATurn(Generic[A]):
    """Passes answers on in their order, at most eight in one turn; the others wait here.

    ``take`` is called with each. What else is ready goes between the turns.
    """

    def __init__(self, loop: AbstractEventLoop, take: Callable[[A], object]) -> None:
        self.take = take
        self.waiting: deque[A] = deque()
        self.loop = loop

    def add(self, answers: Sequence[A]) -> None:
        """Pass these on, the first at once unless others wait."""
        is_first = not self.waiting
        self.waiting += answers
        if is_first:
            self._pass_on()

    def _pass_on(self) -> None:
        try:
            for _ in range(min(_A_TURN, len(self.waiting))):
                self.take(self.waiting.popleft())
        finally:  # a defect at one answer does not hold up the others
            if self.waiting:
                _ = self.loop.call_soon(self._pass_on)
