"""The process at the other end of the control socket, as the kernel names it."""

from contextvars import ContextVar
from typing import Final

from msgspec import Struct


class Asker(Struct, frozen=True, gc=False):
    """A process that asks, by its id, and the id of its user."""

    process: int
    user: int


ASKER: Final[ContextVar[Asker | None]] = ContextVar("ASKER", default=None)


def asker() -> Asker | None:
    """The process whose request this task answers; ``None`` outside of one."""
    return ASKER.get()
