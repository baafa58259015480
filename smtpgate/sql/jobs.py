"""Requests that wait for a thread together, and the ways of their answers to the callers."""

from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from smtpgate.sql.few_a_turn import FewATurn
from smtpgate.sql.inlets import Asked, Inlet

R = TypeVar("R")

Answer = Any
"""The answer to a request; an exception is raised for its caller."""
Unkept = Callable[[Any, Answer], Answer]
"""The answer to a request in place of that one."""


class Handout(Generic[R]):
    """Answers that are handed over in one go: one call for each inlet and each event loop."""

    def __init__(self) -> None:
        self.of_inlets: dict[Inlet[R], list[tuple[Asked[R], Answer]]] = {}
        self.of_loops: dict[FewATurn[Answered[R]], list[Answered[R]]] = {}

    @property
    def is_empty(self) -> bool:
        """True if there are no answers."""
        return not (self.of_inlets or self.of_loops)

    def change(self, unkept: Unkept) -> None:
        """Have other answers in place of all that are here."""
        for inlet, answered in self.of_inlets.items():
            self.of_inlets[inlet] = [
                (asked, unkept(asked.request, answer)) for asked, answer in answered
            ]
        for way, jobs in self.of_loops.items():
            self.of_loops[way] = [
                (job, [unkept(*both) for both in zip(job.requests, answers, strict=True)])
                for job, answers in jobs
            ]


class Handouts(Generic[R]):
    """The answers that hold at once, and those that hold once they were synced."""

    def __init__(self) -> None:
        self.certain: Handout[R] = Handout()
        self.promised: Handout[R] = Handout()


@dataclass(slots=True, eq=False)
class Job(Generic[R]):
    """Requests of one caller; one that is alone has its answer as the result of the future.

    ``way`` passes its answers on, in its event loop.
    """

    requests: Sequence[R]
    is_alone: bool
    way: "FewATurn[Answered[R]]"
    future: "Future[Answer]"
    until_s: float

    @property
    def is_abandoned(self) -> bool:
        """True if the caller gave up."""
        return self.future.done()

    def divide(
        self, answers: Sequence[Answer], promises: Sequence[bool], handouts: Handouts[R]
    ) -> None:
        """Add its answers, all of them together, to those that are certain or promised."""
        handout = handouts.promised if True in promises else handouts.certain
        handout.of_loops.setdefault(self.way, []).append((self, answers))


Answered: TypeAlias = tuple[Job[R], Sequence[Answer]]


class Visit(Generic[R]):
    """Requests that came together at an inlet; nobody gives them up."""

    is_abandoned = False

    def __init__(self, inlet: Inlet[R], asked: Sequence[Asked[R]]) -> None:
        self.requests = [one.request for one in asked]
        self._inlet = inlet
        self._asked = asked

    def divide(
        self, answers: Sequence[Answer], promises: Sequence[bool], handouts: Handouts[R]
    ) -> None:
        """Add each answer to those that are certain or promised."""
        certain: list[tuple[Asked[R], Answer]] = []
        promised: list[tuple[Asked[R], Answer]] = []
        for asked, answer, is_promise in zip(self._asked, answers, promises, strict=True):
            (promised if is_promise else certain).append((asked, answer))
        if certain:
            handouts.certain.of_inlets.setdefault(self._inlet, []).extend(certain)
        if promised:
            handouts.promised.of_inlets.setdefault(self._inlet, []).extend(promised)
