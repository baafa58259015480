"""The steps of applying documents, which are shown, agreed to and carried out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias

from smtpgate.directory.change import Change
from smtpgate.directory.documents.object_keys import Fields

Sign: TypeAlias = Literal["+", "~", "-"]
# Does some steps of one kind together.
Work: TypeAlias = Callable[[Change, Sequence[Any]], Awaitable[object]]

# So few at once that the event loop is never blocked for long.
_TOGETHER: Final = 25


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of an object three times; ``None`` where it is not named or not there."""

    documents_before: Fields | None = None
    documents_now: Fields | None = None
    directory: Fields | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference between directory and documents that stays; it has no secret."""

    what: str
    how: str
    columns: Columns = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.what}: {self.how}"


@dataclass(frozen=True, slots=True)
class Step:
    """Something made (``+``), changed (``~``) or deleted (``-``); its text has no secret.

    ``work`` does it, given the item. Two steps are the same when they say the same, before and
    after included.
    """

    sign: Sign
    what: str
    how: str
    work: Work = field(compare=False, repr=False)
    item: object = field(compare=False, repr=False)
    columns: Columns = field(default=Columns(), compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.sign} {self.what}" + (f" ({self.how})" if self.how else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in the order in which they are taken, and the remaining differences.

    A plan without steps changes nothing.
    """

    steps: tuple[Step, ...] = ()
    drift: tuple[Drift, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    async def perform(self, change: Change) -> None:
        """Take all steps. Raises RefusedChangeError."""
        for work, steps in groupby(self.steps, key=attrgetter("work")):
            items = [step.item for step in steps]
            for start in range(0, len(items), _TOGETHER):
                await work(change, items[start : start + _TOGETHER])
